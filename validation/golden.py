"""Same seed, same log: digests of the event logs of small scenarios, equal on every interpreter; another seed, another log.

A digest is the SHA-256 of all encoded entries of a run, without the header. Predictions in a plan are cut to six digits first:
they are made with NumPy, whose logarithm differs in the last bits between processors. Everything else enters as it is.

``python -m validation.golden --digest`` prints one JSON line per scenario and seed, ``--check`` compares with the committed
digests, ``--bless`` commits new ones. It needs the base installation alone.
"""

import argparse
import hashlib
import sys
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from grainwise.control.actions import Action
from grainwise.control.controller import Controller
from grainwise.control.events import Event
from grainwise.control.invariants import Monitor, check_state
from grainwise.control.log import Entry, encode
from grainwise.domain.time import Instant
from grainwise.planning.problem import Option, PlanTable, Problem
from grainwise.planning.table import compute
from grainwise.simulation.run import Simulation
from validation.measuring import Check, Part
from validation.scenarios import SCENARIOS

COMMITTED = Path(__file__).parent.parent / "tests" / "golden" / "digests.json"
SEEDS = (1, 2)


class Digest(Struct, frozen=True):
    """What a run of a scenario came to."""

    name: str
    seed: int
    digest: str
    events: int


def _cut(prediction: Struct) -> Struct:
    # A capacity is found by steps that make much of a last bit.
    digits = {"capacity_per_s": 3}
    fields = {name: float(f"{getattr(prediction, name):.{digits.get(name, 6)}g}") for name in prediction.__struct_fields__}
    return msgspec.structs.replace(prediction, **fields)


def compute_cut(problem: Problem) -> PlanTable:
    """The planner's table with predictions of six digits."""
    table = compute(problem)
    options = tuple(Option(each.plan, _cut(each.predicted), each.meets_slo, each.lacks) for each in table.options)  # type: ignore[arg-type]
    current = None if table.current is None else _cut(table.current)
    bound = float(f"{table.bound_usd_per_hour:.6g}")
    return msgspec.structs.replace(table, options=options, current=current, bound_usd_per_hour=bound)


def run(name: str, seed: int) -> Digest:
    """Simulate one scenario, checking the invariants on the way."""
    golden = SCENARIOS[name](seed)
    sha = hashlib.sha256()

    def append(seq: int, now: Instant, event: Event, actions: list[Action], controller: Controller) -> None:
        sha.update(encode(Entry(seq, now, event, actions)))

    monitor = Monitor()
    simulation = Simulation(
        golden.scenario,
        golden.arrivals,
        on_end=golden.on_end,
        append=append,
        observers=(monitor.observe,),
        compute=compute_cut,
    )
    simulation.run()
    check_state(simulation.controller, monitor)
    return Digest(name, seed, sha.hexdigest(), simulation.loop.events)


def digests() -> list[Digest]:
    """Every scenario with every seed."""
    return [run(name, seed) for name in SCENARIOS for seed in SEEDS]


def differences(found: list[Digest], path: Path = COMMITTED) -> list[str]:
    """What is not as it was committed."""
    known = {(each.name, each.seed): each for each in msgspec.json.decode(path.read_bytes(), type=list[Digest])}
    return [
        f"{each.name} seed {each.seed}: {each.digest[:12]} of {each.events} events; committed is "
        + (f"{was.digest[:12]} of {was.events}" if (was := known.get((each.name, each.seed))) else "none")
        for each in found
        if known.get((each.name, each.seed)) != each
    ]


def validate() -> Part:
    """Compares with the committed digests, and each scenario with itself and with another seed."""
    began = time.process_time()
    part = Part(
        "golden",
        f"event logs on Python {sys.version.split()[0]}; `python -m validation.golden --check` compares on any interpreter",
        ("scenario", "seed", "events", "digest"),
    )
    found, again = digests(), digests()
    part.rows = [(each.name, str(each.seed), str(each.events), each.digest[:16]) for each in found]
    changed = differences(found)
    part.checks = [
        Check("digests that differ from the committed ones", "; ".join(changed) or "none", "none", not changed),
        Check("runs that differ when repeated", "none" if found == again else "some", "none", found == again),
        Check(
            "scenarios on which two seeds agree",
            str(len(found) - len({each.digest for each in found})),
            "0",
            len({each.digest for each in found}) == len(found),
        ),
    ]
    part.cpu_s = time.process_time() - began
    return part


def main() -> int:
    """Print, check or bless."""
    parser = argparse.ArgumentParser(prog="python -m validation.golden", description=__doc__)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--digest", action="store_true", help="print one JSON line for each digest")
    chosen.add_argument("--check", action="store_true", help="compare with the committed digests")
    chosen.add_argument("--bless", action="store_true", help="commit the present digests")
    given = parser.parse_args()
    found = digests()
    if given.digest:
        for each in found:
            print(msgspec.json.encode(each).decode())
        return 0
    if given.bless:
        COMMITTED.parent.mkdir(parents=True, exist_ok=True)
        COMMITTED.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
        print(f"{len(found)} digests written to {COMMITTED}")
        return 0
    changed = differences(found)
    for line in changed:
        print(line)
    print(f"{len(found) - len(changed)} of {len(found)} digests are as committed on Python {sys.version.split()[0]}")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
