"""From ready items to invocations: queues in order of urgency, idle instances that hold the stages, bounded batches."""

from grainwise.control.actions import Invoke
from grainwise.control.core import DISPATCH, Compiled, Core
from grainwise.control.costs import GroupCost
from grainwise.control.endings import Endings
from grainwise.control.events import ItemRange
from grainwise.control.fleet import Fleet
from grainwise.control.queues import FunctionQueue, Waiting
from grainwise.control.requests import Flow, Ready, Request, inputs_of
from grainwise.control.routing import Group
from grainwise.control.state import AppState, Instance, Invocation
from grainwise.control.turns import Turn, Turns
from grainwise.domain.because import Because
from grainwise.domain.time import SECOND, Micros
from grainwise.domain.values import Payload
from grainwise.policies.batching import BatchView, WaitUntil

HUNG_FACTOR = 3.0
HUNG_FLOOR: Micros = 2 * SECOND
"""A stall of the machine is no hang: below this an invocation without a declared limit is never taken for hung."""

RATE_WINDOW_S = 2

RETRY_ALONE = Because("retried alone after its instance was lost")


class Dispatcher:
    """Fills queues and empties them into instances."""

    def __init__(self, core: Core, fleet: Fleet, endings: Endings) -> None:
        self._core = core
        self._fleet = fleet
        self._turns = Turns(core, fleet, endings)

    def enqueue(self, app: AppState, request: Request, flow: Flow) -> None:
        """Queue the ranges of items that a step of a request made ready."""
        groups = flow.routing.groups
        for entry in flow.ready:
            self._push(app, request, groups[entry.group], entry, 1, False, flow.size(entry))

    def retry(self, app: AppState, request: Request, item: Waiting, index: int, attempt: int) -> None:
        """Queue one item again, to run by itself."""
        flow = self._core.flow(app, request)
        entry = Ready(item.group, item.outer, index, index + 1)
        self._push(app, request, flow.routing.groups[item.group], entry, attempt, True, flow.size(entry))

    def _push(
        self, app: AppState, request: Request, group: Group, entry: Ready, attempt: int, is_alone: bool, size: float
    ) -> None:
        core = self._core
        state, now, mask = core.state, core.now, group.mask
        sequence = state.next_sequence
        state.next_sequence = sequence + 1
        queue = app.queues.get(mask)
        if queue is None:
            queue = app.queues[mask] = FunctionQueue(mask)
        queue.push(
            core.policies[request.app].rank(request.due, sequence),
            Waiting(
                sequence, request.due, request.number, request.plan, group.index, entry.outer, entry.lo, entry.hi, attempt,
                is_alone, now, size,
            ),
        )  # fmt: skip
        request.queued[sequence] = mask
        queue.rate.add(now, entry.hi - entry.lo)

    def run(self) -> None:
        """Dispatch as much as idle instances and free cores allow, the most urgent queue of any app first."""
        found: list[tuple[AppState, FunctionQueue]] = []
        for app in self._core.state.apps.values():
            idle = self._fleet.idle(app)
            if not idle:
                continue
            for mask, queue in app.queues.items():
                if queue.items:
                    for instance in idle.values():
                        if instance.stages & mask == mask:
                            found.append((app, queue))
                            break
        if not found:
            return
        if len(found) > 1:
            found.sort(key=self._urgency)
        held: list[str] = []
        for app, queue in found:
            idle = self._fleet.idle(app)
            while queue.items and idle and self._one(app, queue, idle, held):
                pass

    def _urgency(self, candidate: tuple[AppState, FunctionQueue]) -> tuple[float, float]:
        """The latest instant at which the head of a queue should start; or when it is due, and what is longest first."""
        app, queue = candidate
        head = queue.head()
        if head is None:
            return 0.0, 0.0
        compiled = self._core.compiled(app, head.plan)
        remaining_us = compiled.remaining_us[head.group]
        if compiled.extents is not None:
            # What is begun is finished first: to start others in between would make all of them late.
            return head.due, -remaining_us
        return head.due - remaining_us, 0.0

    def _one(self, app: AppState, queue: FunctionQueue, idle: dict[int, Instance], held: list[str]) -> bool:
        """One invocation from this queue; False when it has to wait.

        A queue that waits for cores keeps less urgent ones off its node (``held``), so that a large share cannot starve.
        """
        head = queue.head()
        if head is None:
            return False
        policies = self._core.policies[app.deployed.app.name]
        if policies.extent is None:
            compiled = self._core.compiled(app, head.plan)
            turn = self._turns.function(app, queue, head, compiled, idle, held)
        else:
            # Values go the same way under every plan, so whoever waits is served by what the present one holds.
            compiled = self._core.compiled(app, app.plan_id)
            turn = self._turns.extent(app, queue, head, compiled, idle, held)
        if not isinstance(turn, Turn):
            return turn
        if head.is_alone:
            count, because = 1, RETRY_ALONE
        else:
            able = 1
            if len(idle) > 1 and queue.items > 1:
                able = self._able(app, turn.part.mask, turn.free, turn.cores)
            decision = policies.batch_now(queue.items, turn.max_batch, able)
            if decision is None:
                view = self._batch_view(app, queue, head, turn, compiled.remaining_us[head.group])
                verdict = policies.batch_or_wait(view, self._core.now)
                if isinstance(verdict, WaitUntil):
                    if queue.wait_until != verdict.at:
                        queue.wait_until = verdict.at
                        self._core.set_timer(verdict.at, DISPATCH, queue.mask, app.deployed.app.name)
                    return False
                decision = verdict
            count, because = decision.items, decision.because
            if turn.because is not None:
                because = Because(turn.because.rule, (*turn.because.facts, ("batch", because.rule)))
        self._invoke(app, queue, queue.take(count), turn, because)
        return True

    def _able(self, app: AppState, mask: int, free_cores: float, cores: float) -> int:
        """How many idle instances could take a part of a queue now."""
        able = sum(1 for each in self._fleet.idle(app).values() if each.stages & mask == mask)
        if not app.deployed.capabilities.is_share_hard:
            able = min(able, int(free_cores / cores + 1e-9))
        return max(1, able)

    def _batch_view(self, app: AppState, queue: FunctionQueue, head: Waiting, turn: Turn, remaining_us: float) -> BatchView:
        cost = turn.cost
        return BatchView(
            items=queue.items,
            max_batch=turn.max_batch,
            oldest=head.queued_at,
            due=head.due,
            remaining_us=remaining_us,
            fixed_us=cost.fixed_us,
            item_us=cost.item_us + cost.size_us * queue.size_sum / queue.items,
            items_per_s=queue.rate.per_second(self._core.now, RATE_WINDOW_S),
            wait_bound_fraction=app.deployed.config.wait_bound_fraction,
            hop_us=app.deployed.hop.fixed_us,
        )

    def _invoke(self, app: AppState, queue: FunctionQueue, taken: list[Waiting], turn: Turn, because: Because) -> None:
        core = self._core
        state, now = core.state, core.now
        number = state.next_invocation
        state.next_invocation = number + 1
        instance, extent = turn.instance, turn.part.mask
        ranges: list[ItemRange] = []
        rows: list[tuple[Payload, ...]] = []
        size_sum = 0.0
        followed = taken[0].plan
        places = core.flows(app, followed)
        group = places.part(extent, taken[0].group)
        for part in taken:
            request = state.requests[part.request]
            if part.sequence not in queue.waiting:
                del request.queued[part.sequence]
            request.running += 1
            if part.plan != followed:
                followed = part.plan
                places = core.flows(app, followed)
                group = places.part(extent, part.group)
            if group.depth:
                rows.extend([inputs_of(request, places, group, part.outer, index) for index in range(part.lo, part.hi)])
            else:
                rows.append(inputs_of(request, places, group, (), 0))
            ranges.append(ItemRange(part.request, part.outer, part.lo, part.hi, part.attempt))
            size_sum += part.size_sum
        queue.wait_until = 0
        queue.tries = 0
        inputs = tuple(rows)
        limit = _limit_us(turn.part, turn.cost, len(inputs), size_sum)
        invocation = Invocation(number, instance.number, instance.app, extent, taken, inputs, now)
        state.invocations[number] = invocation
        self._fleet.occupy(app, instance, number, turn.cores, now + limit)
        core.emit(Invoke(number, instance.number, extent, tuple(ranges), inputs, turn.cores, limit, because))

    def wait_us(self, app: AppState) -> float:
        """Predicted wait of a request that arrives now: the work that is queued over the cores that can do it."""
        total = 0.0
        for queue in app.queues.values():
            head = queue.head()
            if head is not None:
                compiled = self._core.compiled(app, head.plan)
                group = compiled.flows.groups[head.group]
                total += self._queued_us(queue, head, compiled, group.function.max_batch) * group.function.cpu_cores
        cores = sum(node.usable_cores for node in self._core.state.nodes.values())
        return total / cores if cores > 0 else total

    def backlog_us(self, app: AppState, mask: int) -> float:
        """Predicted busy time of what waits for the stages of a function."""
        if not self._core.is_stagewise(app):
            queue = app.queues.get(mask)
            head = queue.head() if queue is not None else None
            if queue is None or head is None:
                return 0.0
            compiled = self._core.compiled(app, head.plan)
            return self._queued_us(queue, head, compiled, compiled.flows.groups[head.group].function.max_batch)
        compiled = self._core.compiled(app, app.plan_id)
        total = 0.0
        for queue in app.queues.values():
            if queue.items and queue.mask & mask == queue.mask:
                total += queue.items * compiled.rest_us(queue.mask.bit_length() - 1, mask)
        return total

    def _queued_us(self, queue: FunctionQueue, head: Waiting, compiled: Compiled, max_batch: int) -> float:
        """Predicted work of one queue: of its function, or where extents are decided at dispatch of all that follows."""
        cost = compiled.flow_costs[head.group]
        if compiled.extents is not None:
            return queue.items * compiled.rest_us(head.group, compiled.flows.graph.all_mask)
        batches = -(-queue.items // max_batch)
        return cost.fixed_us * batches + cost.item_us * queue.items + cost.size_us * queue.size_sum


def _limit_us(group: Group, cost: GroupCost, count: int, size_sum: float) -> Micros:
    if group.all_declared:
        return group.limit_us
    predicted = cost.fixed_us + count * cost.item_us + size_sum * cost.size_us
    return group.limit_us + max(HUNG_FLOOR, int(predicted * cost.p99_factor * HUNG_FACTOR + cost.first_call_us))
