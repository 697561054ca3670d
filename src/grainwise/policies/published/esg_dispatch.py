"""ESG_Dispatch: data locality first, then warm instances, then the function's home, then best fit (reconstructed).

That ESG (HPDC 2024) places by free resources, with data locality first, and favours warm starts is published at second hand;
that it warms up by a smoothed prediction is recalled; the order is our own. An invocation goes to a warm instance or waits for
one to be started, so the first two steps decide where it runs and the others where an instance is started. Of an instance that
is started before any request is there, the predecessor's machine is the one on which most instances are, in proportion, that
it exchanges values with. Where shares are soft, a machine has room while no more cores are promised than it has; where none
has, an instance goes where least is.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from msgspec import Struct

from grainwise.domain.because import Because
from grainwise.policies import placement, routing
from grainwise.policies.autoscale import ScaleTo, ScaleView
from grainwise.policies.batching import BatchView, Dispatch
from grainwise.policies.slices import EPSILON, DeviceNeed, Grant, grant, lacking, waste

PREDECESSOR = "the machine of its predecessor"
WARM = "a machine with a warm instance"
HOME = "the home of the function"
BEST_FIT = "the machine that it fits best"
LEAST_PROMISED = "no machine has cores for it, so the one of whose cores least is promised"

WARM_AHEAD = "warm for the next invocation"
AS_CONFIGURED = Because("as many as its configuration takes")

C = TypeVar("C", bound=routing.Candidate)


class Invoker(Struct, frozen=True):
    """A machine as ESG_Dispatch sees it: what it is to a function, and what would be left of it: the least is the best fit."""

    name: str
    has_room: bool = True
    is_predecessor: bool = False
    is_warm: bool = False
    is_home: bool = False
    left: tuple[float, ...] = ()


def choose(invokers: Sequence[Invoker]) -> tuple[Invoker, str] | None:
    """The machine for a function with one configuration, and by which step; ``None`` where none has room for it."""
    able = [each for each in invokers if each.has_room]
    if not able:
        return None
    for step, found in (
        (PREDECESSOR, [each for each in able if each.is_predecessor]),
        (WARM, [each for each in able if each.is_warm]),
        (HOME, [each for each in able if each.is_home]),
        (BEST_FIT, able),
    ):
        if found:
            return min(found, key=lambda each: (each.left, each.name)), step
    return None


def route(extent: int, idle: Iterable[C], home: str = "") -> C | None:
    """A warm instance, on the node ``home`` where its inputs lie if there is one; of several the most recently used."""
    able = {each.number: each for each in idle if each.stages & extent == extent}
    found = choose(
        [
            Invoker(str(number), True, each.node == home != "", True, False, (-each.idle_since, number))
            for number, each in able.items()
        ]
    )
    return None if found is None else able[int(found[0].name)]


def place(
    nodes: Sequence[placement.NodeView],
    memory_mib: float,
    cpu_cores: float,
    is_share_hard: bool,
    need: DeviceNeed | None = None,
) -> placement.Place | placement.NoRoom:
    """Where an instance is started: near its predecessors, at home, or where it leaves least of a device or of memory."""
    grants: dict[str, tuple[tuple[float, float], Grant]] = {}
    able: list[placement.NodeView] = []
    for node in nodes:
        best = _best_grant(node, need) if need is not None else None
        if best is not None:
            grants[node.name] = best
        if node.free_memory_mib + EPSILON < memory_mib or (need is not None and best is None):
            continue
        if not is_share_hard or node.free_cores + EPSILON >= cpu_cores:
            able.append(node)
    if not able:
        return _no_room(nodes, memory_mib, cpu_cores, need, is_any_grant=bool(grants))
    most_pull = max(node.pull for node in able)
    found = choose(
        [
            Invoker(
                name=node.name,
                has_room=is_share_hard or not node.is_crowded,
                is_predecessor=node.pull > 0 and node.pull >= most_pull,
                is_home=node.is_home,
                left=(
                    *(grants[node.name][0] if need is not None else ()),
                    node.usable_cores - node.promised_cores,
                    node.free_memory_mib,
                ),
            )
            for node in able
        ]
    )
    if found is None:
        freest = min(able, key=lambda node: (node.promised_fraction(cpu_cores), -node.free_memory_mib, node.name))
        found = Invoker(freest.name), LEAST_PROMISED
    chosen, step = found
    if need is None:
        return placement.Place(chosen.name, Because(step, (("node", chosen.name),)))
    given = grants[chosen.name][1]
    where = (("node", chosen.name), ("device", given.device), ("share", given.share_fraction), ("slot", given.start))
    return placement.Place(chosen.name, Because(step, where), given)


def _best_grant(node: placement.NodeView, need: DeviceNeed) -> tuple[tuple[float, float], Grant] | None:
    """The part of a node's devices that wastes least."""
    best: tuple[tuple[float, float], Grant] | None = None
    for view in node.devices:
        given = grant(view, need)
        if given is not None:
            cost = waste(view, given, need)
            if best is None or cost < best[0]:
                best = cost, given
    return best


def _no_room(
    nodes: Sequence[placement.NodeView], memory_mib: float, cpu_cores: float, need: DeviceNeed | None, *, is_any_grant: bool
) -> placement.NoRoom:
    if need is not None and not is_any_grant:
        return placement.NoRoom(0.0, 0.0, lacking(tuple(view for node in nodes for view in node.devices), need))
    roomy = [node for node in nodes if node.free_memory_mib + EPSILON >= memory_mib]
    if roomy:
        return placement.NoRoom(0.0, cpu_cores - max(node.free_cores for node in roomy))
    return placement.NoRoom(memory_mib - max((node.free_memory_mib for node in nodes), default=0.0))


def scale(view: ScaleView) -> ScaleTo:
    """One warm instance beside those that are busy on the mean, for the next invocation; what waits counts as busy too.

    ESG predicts the next invocation by an exponentially weighted mean. The controller's mean over five seconds is as old on
    average as one that gives the newest second a third of the weight.
    """
    waiting = view.backlog_us / view.patience_us if view.patience_us > 0 else 0.0
    busy = view.offered + waiting
    wanted = max(int(busy) + 1 if busy > 0 else 0, view.min_instances)
    facts = (("offered", view.offered), ("backlog_ms", view.backlog_us / 1000), ("have", view.instances))
    return ScaleTo(min(wanted, max(view.max_instances, view.min_instances)), Because(WARM_AHEAD, facts))


def batch_now(items: int, max_batch: int, able: int) -> Dispatch:
    """The batch of the configuration, which is no larger than what waits."""
    return Dispatch(min(items, max_batch), AS_CONFIGURED)


def never_wait(view: BatchView, now: int) -> Dispatch:
    """What waits, up to the batch of the configuration."""
    return Dispatch(min(view.items, view.max_batch), AS_CONFIGURED)
