"""``grainwise serve`` of the image application as its peers run: one instance per function, the whole machine shared out.

    python -m benchmarks.our_server APP --grain ... --port N --profile FILE --log FOLDER

The planner gives a function the least share that meets the SLO, and a second instance when load asks for one. The peers know no
shares and have one worker per stage, so that here each function has one instance and an equal part of all the cores.
"""

import argparse
from pathlib import Path

import msgspec

from grainwise.cli import commands, serving
from grainwise.domain.config import AppConfig
from grainwise.gateway.admin import AdminListen
from grainwise.planning import table
from grainwise.planning.problem import PlanTable, Problem


def compute(problem: Problem) -> PlanTable:
    """The planner's table, its winner with one instance per function and equal parts of the cores."""
    found = table.compute(problem)
    winner = found.winner
    cores = sum(node.usable_cores for node in problem.nodes) / len(winner.plan.functions)
    functions = tuple(
        msgspec.structs.replace(each, cpu_cores=cores, instances=1, min_instances=1, max_instances=1)
        for each in winner.plan.functions
    )
    plan = msgspec.structs.replace(winner.plan, functions=functions)
    return msgspec.structs.replace(found, options=(msgspec.structs.replace(winner, plan=plan),))


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("app", type=Path)
    parser.add_argument("--grain", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    given = parser.parse_args()
    # The planner's process imports it by name, which must not be that of a script.
    from benchmarks import our_server

    serving.make_plan = our_server.compute
    options = serving.ServeOptions(
        given.app,
        port=given.port,
        admin=AdminListen(port=0),
        profile=given.profile,
        grain=given.grain,
        log=given.log,
        config=AppConfig(replan_us=0),
    )
    commands.serve_app(options, 0.0, False)


if __name__ == "__main__":
    main()
