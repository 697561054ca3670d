"""What comes next from a queue: a whole function, or as much of the DAG as is decided now, on which idle instance and cores."""

from msgspec import Struct

from grainwise.control.core import Compiled, Core
from grainwise.control.costs import GroupCost
from grainwise.control.endings import Endings
from grainwise.control.fleet import EPSILON, Fleet
from grainwise.control.queues import FunctionQueue, Waiting
from grainwise.control.requests import Request, inputs_of
from grainwise.control.routing import Group, Routing
from grainwise.control.state import AppState, Instance
from grainwise.domain.because import Because
from grainwise.policies.extent import Drop, ExtentView, Offer

ROOMY = 2.0
"""So many times the cores of an invocation must be free on the node of its inputs for it to be preferred."""

MOST_SIDE = 4
"""More instances than this to share a fan-out make no difference to what is on offer."""


class Turn(Struct, frozen=True, gc=False):
    """What comes next from a queue: an instance, the extent that it runs, its predicted cost, its cores and the largest batch.

    ``free`` are the cores that the app may use on the node of the instance.
    """

    instance: Instance
    part: Group
    cost: GroupCost
    cores: float
    free: float
    max_batch: int
    because: Because | None


class Turns:
    """Asks the policies who is next, with what is idle and free."""

    def __init__(self, core: Core, fleet: Fleet, endings: Endings) -> None:
        self._core = core
        self._fleet = fleet
        self._endings = endings

    def function(
        self,
        app: AppState,
        queue: FunctionQueue,
        head: Waiting,
        compiled: Compiled,
        idle: dict[int, Instance],
        held: list[str],
    ) -> Turn | bool:
        """The whole function that the head waits for, on the instance that the policy names; False where there is none."""
        core = self._core
        group = compiled.flows.groups[head.group]
        policies = core.policies[app.deployed.app.name]
        home = self._home(core.state.requests[head.request], compiled, head, group.function.cpu_cores)
        while True:
            able_nodes = [each for each in idle.values() if each.node not in held] if held else idle.values()
            instance = policies.route(queue.mask, able_nodes, home)
            if instance is None:
                return False
            node = core.state.nodes[instance.node]
            cores = min(group.function.cpu_cores, node.usable_cores)
            if cores > 0 and self._fleet.can_run(app, node, cores):
                cost = compiled.flow_costs[head.group]
                return Turn(instance, group, cost, cores, node.free_cores, group.function.max_batch, None)
            held.append(instance.node)

    def extent(
        self,
        app: AppState,
        queue: FunctionQueue,
        head: Waiting,
        compiled: Compiled,
        idle: dict[int, Instance],
        held: list[str],
    ) -> Turn | bool:
        """As much of the DAG as the policy says, out of what idle instances hold and free cores allow.

        False where nothing can run now, True where a request was given up and the next one may be looked at.
        """
        core, extents = self._core, compiled.extents
        assert extents is not None
        nodes = core.state.nodes
        request = core.state.requests[head.request]
        is_hard = app.deployed.capabilities.is_share_hard
        # What an instance may be given now: nothing limits a hard share, which was charged when it started. Where presence is
        # paid for, an app's invocations use no more of a node than its instances there have shares of.
        free: list[tuple[Instance, float, float]] = []
        is_pooled = not is_hard and app.plan.objective == "provisioned"
        first = queue.mask
        for each in idle.values():
            # Every extent begins with the stage that the head waits for.
            if each.stages & first == first and each.node not in held:
                node = nodes[each.node]
                usable = node.usable_cores
                if usable > 0:
                    left = usable if is_hard else usable - node.cores
                    if is_pooled:
                        spare = self._fleet.spare_cores(app, compiled, each.node)
                        left = spare if spare < left else left
                    free.append((each, left + EPSILON, usable))
        # Whoever is busy now may be idle by the time that there is something to share.
        side = min(MOST_SIDE, self._fleet.serving(app, queue.mask))
        offers: list[Offer] = []
        is_short = False
        for offer in extents.offers(request.done, head.group, queue.items, side, head.due - core.now, queue.tries):
            mask, cores = offer.mask, offer.cpu_cores
            needs = extents.needs(mask)
            if needs and (offer.batch > 1 or not self._knows(request, compiled.flows, head, needs)):
                continue
            for each, left, usable in free:
                if each.stages & mask == mask:
                    if is_hard or (cores if cores < usable else usable) <= left:
                        offers.append(offer)
                        break
                    is_short = True
        if not offers:
            queue.tries += 1
            if is_short:
                held.extend(each.node for each, _, _ in free if each.node not in held)
            return False
        policies = core.policies[app.deployed.app.name]
        assert policies.extent is not None
        cost = compiled.flow_costs[head.group]
        extra = (head.size_sum - (head.hi - head.lo) * cost.mean_size) * cost.size_us
        decision = policies.extent(
            ExtentView(head.due, offers, extra, extents.doubt, app.deployed.config.late, queue.due_by), core.now
        )  # fmt: skip
        if isinstance(decision, Drop):
            self._endings.reject(request, "too_late", decision.because)
            return True
        mask, cores = decision.step.mask, decision.step.cpu_cores
        # Where only one is free, it was for that one that something was on offer.
        able = free
        if len(free) > 1:
            able = [
                (each, left, usable)
                for each, left, usable in free
                if each.stages & mask == mask and (is_hard or (cores if cores < usable else usable) <= left)
            ]
        instance, left, usable = able[0]
        if len(able) > 1:
            chosen = policies.route(mask, [each for each, _, _ in able], self._home(request, compiled, head, cores))
            instance, left, usable = next((each for each in able if each[0] is chosen), able[0])
        cores = cores if cores < usable else usable
        part = compiled.flows.extent(mask)
        # Where a larger batch was on offer and not taken, more items must not make it one after all.
        batch = decision.step.batch
        if extents.needs(mask):
            batch = 1
        elif not decision.is_exact and not (
            len(offers) > 1 and any(each.mask == mask and each.batch > batch for each in offers)
        ):
            batch = extents.useful(mask)
        return Turn(instance, part, compiled.extent_cost(part, cores), cores, left, batch, decision.because)

    @staticmethod
    def _knows(request: Request, flows: Routing, head: Waiting, needs: tuple[int, ...]) -> bool:
        """Whether the values of these sources are there for the first item of a range."""
        return all((number, *_place(head, flows.sources[number].depth)) in request.values for number in needs)

    def _home(self, request: Request, compiled: Compiled, head: Waiting, cores: float) -> str:
        """The node on which most of what the head reads lies; empty where that is not known or is of no use.

        A node that this invocation would fill is none to prefer: whoever comes next would wait there while others are idle.
        """
        nodes = self._core.state.nodes
        if len(nodes) < 2:
            return ""
        flows = compiled.flows
        group = flows.groups[head.group]
        nbytes: dict[str, int] = {}
        for number, payload in zip(group.inputs, inputs_of(request, flows, group, head.outer, head.lo), strict=True):
            fan = flows.fan_by_element.get(number)
            for source in fan.over if fan is not None else (number,):
                home = request.homes.get((source, *_place(head, flows.sources[source].depth)))
                if home is not None:
                    nbytes[home] = nbytes.get(home, 0) + sum(ref.nbytes for ref in payload.refs)
        home = max(nbytes, key=lambda name: (nbytes[name], name), default="")
        return home if home in nodes and nodes[home].free_cores >= ROOMY * cores else ""


def _place(head: Waiting, depth: int) -> tuple[int, ...]:
    """The first ``depth`` indices of the path of a range's first item."""
    return (*head.outer, head.lo)[:depth]
