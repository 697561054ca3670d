"""No policy lives in the simulator: it asks none, it defines none, and another set of them changes what happens."""

import ast
import re
from pathlib import Path

import msgspec
import pytest
from validation.scenarios import SCENARIOS

import grainwise.simulation
from grainwise.control.events import RequestArrived
from grainwise.control.log import encode_actions
from grainwise.domain.config import AppConfig
from grainwise.domain.time import SECOND
from grainwise.simulation.run import Simulation

MODULES = sorted(Path(grainwise.simulation.__file__).parent.glob("*.py"))
POLICY_NAME = re.compile(
    r"_?(decide|verdict|admission|enqueue|dequeue|dispatch|scale_(up|down|to)|autoscale|rank|batch_now|batch_or_wait"
    r"|regranulate|keep_alive|evict|choose_(node|instance|plan|grain)|route|place)(_\w+)?|\w*(Queue|Scaler|Dispatcher|Policy)"
)


def names_of(tree: ast.AST) -> list[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node.name for node in ast.walk(tree) if isinstance(node, kinds)]


def imports_of(tree: ast.AST) -> list[str]:
    found = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_asks_no_policy_and_defines_none(path: Path) -> None:
    tree = ast.parse(path.read_text())
    # How a set plans is asked where planning problems are answered, outside of what is simulated.
    allowed = "grainwise.policies.sets" if path.stem == "planners" else "nothing"
    assert not [name for name in imports_of(tree) if name.startswith("grainwise.policies") and not name.startswith(allowed)]
    assert not [name for name in names_of(tree) if POLICY_NAME.fullmatch(name)]


def actions_under(policies: str, max_batch: int) -> list[bytes]:
    golden = SCENARIOS["split-chain"](3)
    apps = tuple(
        app.with_plan(
            msgspec.structs.replace(
                app.plan,
                functions=tuple(
                    msgspec.structs.replace(function, instances=1, max_instances=4, max_batch=max_batch)
                    for function in app.plan.functions
                ),
            ),
            AppConfig(replan_us=0, wait_bound_fraction=0.5, policies=policies),
        )
        for app in golden.scenario.apps
    )
    found: list[bytes] = []
    arrived: list[int] = []

    def observe(event: object, actions: object, now: int) -> None:
        found.append(encode_actions(actions))
        if isinstance(event, RequestArrived):
            arrived.append(now)

    Simulation(
        msgspec.structs.replace(golden.scenario, apps=apps, duration_us=4 * SECOND), golden.arrivals, observers=(observe,)
    ).run()
    assert arrived
    return found


def test_another_set_of_policies_changes_what_happens() -> None:
    usual = actions_under("adaptive", 4)
    assert actions_under("adaptive", 4) == usual
    assert actions_under("eager", 4) != usual
    assert actions_under("concurrency", 1) != actions_under("adaptive", 1)
