"""From ready items to invocations: queues in order of urgency, idle instances that hold the stages, bounded batches."""

from collections.abc import Callable, Sequence

from grainwise.control.actions import Invoke
from grainwise.control.core import DISPATCH, LIMIT, Core
from grainwise.control.events import ItemRange
from grainwise.control.fleet import Fleet
from grainwise.control.queues import FunctionQueue, Waiting
from grainwise.control.requests import Ready, Request
from grainwise.control.routing import Group, GroupCost, payload_size
from grainwise.control.state import AppState, Instance, Invocation, RateMeter, Running
from grainwise.domain.because import Because
from grainwise.domain.time import SECOND, Micros
from grainwise.domain.values import Payload
from grainwise.policies import batching, ordering, routing

HUNG_FACTOR = 3.0
HUNG_FLOOR: Micros = 2 * SECOND
"""A stall of the machine is no hang: below this an invocation without a declared limit is never taken for hung."""

RETRY_ALONE = Because("retried alone after its instance was lost")


class Dispatcher:
    """Fills queues and empties them into instances."""

    def __init__(self, core: Core, fleet: Fleet) -> None:
        self._core = core
        self._fleet = fleet

    def enqueue(self, app: AppState, request: Request, ready: Sequence[Ready]) -> None:
        """Queue ranges of items that can run now."""
        compiled = self._core.routing(app, request.plan)
        for entry in ready:
            group = compiled.groups[entry.group]
            size = self._size(app, request, group, entry)
            self._push(app, request, group, entry.outer, entry.lo, entry.hi, 1, False, size)

    def retry(self, app: AppState, request: Request, item: Running, index: int, attempt: int) -> None:
        """Queue one item again, to run by itself."""
        group = self._core.routing(app, request.plan).groups[item.group]
        entry = Ready(item.group, item.outer, index, index + 1)
        size = self._size(app, request, group, entry)
        self._push(app, request, group, item.outer, index, index + 1, attempt, True, size)

    def _push(
        self,
        app: AppState,
        request: Request,
        group: Group,
        outer: tuple[int, ...],
        lo: int,
        hi: int,
        attempt: int,
        is_alone: bool,
        size: float,
    ) -> None:
        state = self._core.state
        sequence = state.next_sequence
        state.next_sequence = sequence + 1
        due, sequence = ordering.decide(request.due, sequence)
        queue = app.queues.get(group.mask)
        if queue is None:
            queue = app.queues[group.mask] = FunctionQueue(group.mask)
            app.items_rate[group.mask] = RateMeter()
        queue.push(
            Waiting(
                due, sequence, request.number, request.plan, group.index, outer, lo, hi, attempt, is_alone, self._core.now, size
            )
        )
        request.queued[sequence] = group.mask
        app.items_rate[group.mask].add(self._core.now, hi - lo)

    def _size(self, app: AppState, request: Request, group: Group, entry: Ready) -> float:
        """The sum of the sizes of a range, as its first stage measures them."""
        flow = self._core.flow(app, request)
        total = 0.0
        for index in range(entry.lo, entry.hi):
            payloads = flow.inputs(entry.group, entry.outer, index)
            for at, payload in zip(group.size_at, payloads, strict=True):
                if at >= 0 and payload.shape != "skipped":
                    total += payload_size(payload, at)
        return total

    def run(self, app: AppState) -> None:
        """Dispatch as much as idle instances and free cores allow, the most urgent queue first."""
        idle = [each for each in self._fleet.of(app) if each.phase == "ready" and not each.invocation]
        if not idle:
            return
        waiting = [queue for queue in app.queues.values() if queue.items]
        if len(waiting) > 1:
            waiting.sort(key=self._urgency(app))
        for queue in waiting:
            while queue.items and idle and self._one(app, queue, idle):
                pass

    def _urgency(self, app: AppState) -> Callable[[FunctionQueue], tuple[float, int]]:
        def rank(queue: FunctionQueue) -> tuple[float, int]:
            head = queue.head()
            if head is None:
                return (0.0, queue.mask)
            group = self._core.routing(app, head.plan).groups[head.group]
            return (head.due - self._core.remaining_us(app, head.plan, group), queue.mask)

        return rank

    def _one(self, app: AppState, queue: FunctionQueue, idle: list[Instance]) -> bool:
        """One invocation from this queue; False when it has to wait."""
        core = self._core
        head = queue.head()
        if head is None:
            return False
        instance = routing.decide(queue.mask, idle)
        if instance is None:
            return False
        group = core.routing(app, head.plan).groups[head.group]
        cost = core.cost(app, head.plan, group)
        node = core.state.nodes[instance.node].node
        cores = min(group.function.cpu_cores, node.usable_cores)
        if not self._fleet.can_run(instance, cores):
            return False
        if head.is_alone:
            count, because = 1, RETRY_ALONE
        else:
            able = 1
            if queue.items > 1:
                free = core.state.nodes[instance.node].free_cores
                able = sum(1 for each in idle if each.stages & queue.mask == queue.mask)
                able = max(1, min(able, int(free / cores + 1e-9)))
            item_us = cost.item_us + cost.size_us * queue.size_sum / queue.items
            decision = batching.decide(
                batching.BatchView(
                    queue.items,
                    group.function.max_batch,
                    able,
                    head.queued_at,
                    head.due,
                    core.remaining_us(app, head.plan, group),
                    cost.fixed_us,
                    item_us,
                    app.items_rate[queue.mask].per_second(core.now, 2),
                    app.deployed.config.wait_bound_fraction,
                ),
                core.now,
            )
            if isinstance(decision, batching.WaitUntil):
                core.set_timer(decision.at, DISPATCH, queue.mask, app.deployed.app.name)
                return False
            count, because = decision.items, decision.because
        self._invoke(app, queue.take(count), instance, group, cost, cores, because)
        idle.remove(instance)
        return True

    def _invoke(
        self,
        app: AppState,
        taken: list[Waiting],
        instance: Instance,
        group: Group,
        cost: GroupCost,
        cores: float,
        because: Because,
    ) -> None:
        core = self._core
        state = core.state
        number = state.next_invocation
        state.next_invocation = number + 1
        items: list[Running] = []
        ranges: list[ItemRange] = []
        inputs: list[tuple[Payload, ...]] = []
        count, size_sum = 0, 0.0
        for part in taken:
            request = state.requests[part.request]
            if request.queued.get(part.sequence) is not None and not self._is_split(app, group.mask, part):
                del request.queued[part.sequence]
            request.running += 1
            flow = core.flow(app, request)
            inputs.extend(flow.inputs(part.group, part.outer, index) for index in range(part.lo, part.hi))
            items.append(Running(part.request, part.plan, part.group, part.outer, part.lo, part.hi, part.attempt))
            ranges.append(ItemRange(part.request, part.outer, part.lo, part.hi, part.attempt))
            count += part.hi - part.lo
            size_sum += part.size_sum
        limit = self._limit_us(group, cost, count, size_sum, max(part.attempt for part in taken))
        invocation = Invocation(number, instance.number, instance.app, group.mask, items, inputs, core.now, core.now + limit)
        state.invocations[number] = invocation
        instance.invocation = number
        self._fleet.charge(instance, cores)
        core.set_timer(invocation.limit, LIMIT, number)
        core.emit(Invoke(number, instance.number, group.mask, tuple(ranges), tuple(inputs), cores, limit, because))

    def _is_split(self, app: AppState, mask: int, part: Waiting) -> bool:
        """Whether the rest of a range still waits under the same sequence number."""
        head = app.queues[mask].head()
        return head is not None and head.sequence == part.sequence

    def _limit_us(self, group: Group, cost: GroupCost, count: int, size_sum: float, attempt: int) -> Micros:
        if group.limit_us:
            return group.limit_us
        predicted = cost.predict_us(count, size_sum) * cost.p99_factor * HUNG_FACTOR + cost.first_call_us
        return max(HUNG_FLOOR, int(predicted))

    def wait_us(self, app: AppState) -> float:
        """Predicted wait of a request that arrives now: the work that is queued over the cores that can do it."""
        total = 0.0
        for queue in app.queues.values():
            head = queue.head()
            if head is None:
                continue
            group = self._core.routing(app, head.plan).groups[head.group]
            cost = self._core.cost(app, head.plan, group)
            total += self._backlog_us(queue, cost, group) * group.function.cpu_cores
        cores = sum(node.node.usable_cores for node in self._core.state.nodes.values())
        return total / cores if cores else total

    def backlog_us(self, app: AppState, queue: FunctionQueue) -> float:
        """Predicted busy time of what waits in one queue."""
        head = queue.head()
        if head is None:
            return 0.0
        group = self._core.routing(app, head.plan).groups[head.group]
        return self._backlog_us(queue, self._core.cost(app, head.plan, group), group)

    def _backlog_us(self, queue: FunctionQueue, cost: GroupCost, group: Group) -> float:
        batches = -(-queue.items // group.function.max_batch)
        return cost.fixed_us * batches + cost.item_us * queue.items + cost.size_us * queue.size_sum
