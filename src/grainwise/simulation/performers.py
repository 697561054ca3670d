"""The other performers of a simulated run: a store that counts, a door that tells users, a planner that takes its time."""

from collections.abc import Callable

from grainwise.control.actions import ComputePlan, Reject, Respond
from grainwise.control.events import Event, PlanFailed, PlanReady
from grainwise.domain.errors import GrainwiseError
from grainwise.domain.time import Instant, Micros
from grainwise.planning.problem import PlanTable, Problem
from grainwise.simulation.loop import COMPLETION, VirtualLoop


class SimulationError(GrainwiseError):
    """The controller asked for something that no world can do: a fault of the product, never of its user."""


class CountingStore:
    """Payload bytes as numbers: which handles live, how long they are, on which node they lie."""

    def __init__(self) -> None:
        self._nbytes: dict[int, int] = {}
        self._nodes: dict[int, int] = {}
        self._next = 0
        self.live_bytes = 0
        self.peak_bytes = 0

    def put(self, nbytes: int, node: int) -> int:
        """A fresh handle for ``nbytes`` on a node."""
        self._next = handle = self._next + 1
        self._nbytes[handle] = nbytes
        if node:
            self._nodes[handle] = node
        self.live_bytes = live = self.live_bytes + nbytes
        if live > self.peak_bytes:
            self.peak_bytes = live
        return handle

    def adopt(self, handle: int, nbytes: int) -> None:
        """A handle that lives already; its bytes lie on the first node."""
        self._nbytes[handle] = nbytes
        self._next = max(self._next, handle)
        self.live_bytes += nbytes
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def node_of(self, handle: int) -> int:
        """Where the bytes behind a handle lie.

        Raises:
            SimulationError: the handle was released.
        """
        if handle not in self._nbytes:
            raise SimulationError(f"handle {handle} is read after it was released")
        return self._nodes.get(handle, 0)

    def release(self, handles: tuple[int, ...]) -> None:
        """Forget these handles.

        Raises:
            SimulationError: one is not live.
        """
        nbytes, nodes = self._nbytes, self._nodes
        for handle in handles:
            try:
                self.live_bytes -= nbytes.pop(handle)
            except KeyError:
                raise SimulationError(f"handle {handle} is released twice") from None
            if nodes:
                nodes.pop(handle, None)


class LedgerDoor:
    """Ends requests: releases what answers were made of and calls back whoever waits.

    Args:
        store: where the answers lie.
        on_end: called with the number of each request that ends.
    """

    def __init__(self, store: CountingStore, on_end: Callable[[int], None]) -> None:
        self._store = store
        self._on_end = on_end

    def respond(self, action: Respond) -> None:
        """An answer is written."""
        outputs = action.outputs
        if len(outputs) == 1 and len(outputs[0].refs) == 1:
            self._store.release((outputs[0].refs[0].handle,))
        else:
            # One value may be answered under two names.
            self._store.release(tuple({ref.handle: None for payload in outputs for ref in payload.refs}))
        self._on_end(action.request)

    def reject(self, action: Reject) -> None:
        """An error is written."""
        self._on_end(action.request)


class DelayedPlanner:
    """Computes a plan at once and answers after the virtual time that the search is modelled to take."""

    def __init__(
        self, loop: VirtualLoop, compute: Callable[[Problem], PlanTable], duration_us: Callable[[int], Micros]
    ) -> None:
        self._loop = loop
        self._compute = compute
        self._duration_us = duration_us

    def compute(self, action: ComputePlan) -> None:
        """Answer later."""
        problem = action.problem
        event: Event
        delay = self._duration_us(0)
        try:
            table = self._compute(problem)
        except GrainwiseError as error:
            event = PlanFailed(problem.app.name, problem.number, str(error))
        else:
            event = PlanReady(problem.app.name, table)
            delay = self._duration_us(table.expanded_nodes)
        at: Instant = self._loop.now + delay
        self._loop.schedule(at, COMPLETION, self._loop.post, event)
