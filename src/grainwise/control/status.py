"""What an operator may see of an app: a value made from the state, with no reference into it."""

from msgspec import Struct

from grainwise.control.state import ControllerState
from grainwise.domain.plan import Plan, render_grain


class InstanceStatus(Struct, frozen=True):
    """One instance: the stages that it holds and what it does."""

    instance: int
    node: str
    stages: tuple[str, ...]
    phase: str
    is_busy: bool
    memory_mib: float


class QueueStatus(Struct, frozen=True):
    """One function's queue."""

    stages: tuple[str, ...]
    items: int


class AppStatus(Struct, frozen=True):
    """The plan that new requests follow, a change under way, instances and queues.

    ``last_ask`` is why the regranulation policy last had a plan computed, or had none, ``last_verdict`` what came of the
    answer.
    """

    app: str
    plan: Plan
    plan_id: str
    grain: str
    regranulating_to: str
    asked_by: str
    regranulations: int
    in_flight: int
    is_planning: bool
    last_refusal: str
    last_change: str
    last_verdict: str
    is_ready: bool
    instances: tuple[InstanceStatus, ...]
    queues: tuple[QueueStatus, ...]
    device_class: str
    last_ask: str = ""


def describe(state: ControllerState, name: str) -> AppStatus:
    """The status of an app.

    Raises:
        KeyError: no such app is deployed.
    """
    app = state.apps[name]
    graph = app.deployed.app.graph
    instances = tuple(
        InstanceStatus(
            each.number, each.node, graph.names(each.stages), each.phase, bool(each.invocation), round(each.memory_mib, 1)
        )
        for each in state.instances.values()
        if each.app == name
    )
    transition = app.transition
    ready = [each for each in state.instances.values() if each.app == name and each.phase == "ready"]
    masks = [graph.mask(function.stages) for function in app.plan.functions]
    return AppStatus(
        app=name,
        plan=app.plan,
        plan_id=app.plan_id,
        grain=render_grain(app.plan.grain),
        regranulating_to=render_grain(transition.plan.grain) if transition else "",
        asked_by=transition.by if transition else "",
        regranulations=app.regranulations,
        in_flight=app.in_flight,
        is_planning=bool(app.problem),
        last_refusal=app.last_refusal,
        last_change=app.last_change,
        last_verdict=app.last_verdict,
        is_ready=all(any(each.stages & mask == mask for each in ready) for mask in masks),
        instances=instances,
        queues=tuple(QueueStatus(graph.names(queue.mask), queue.items) for queue in app.queues.values()),
        device_class=app.deployed.model.device_class,
        last_ask=app.last_ask.render() if app.last_ask is not None else "",
    )
