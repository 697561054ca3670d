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
        self._held: dict[int, tuple[int, int]] = {}
        self._next = 1
        self.live_bytes = 0
        self.peak_bytes = 0

    def put(self, nbytes: int, node: int) -> int:
        """A fresh handle for ``nbytes`` on a node."""
        handle = self._next
        self._next = handle + 1
        self._held[handle] = (nbytes, node)
        self.live_bytes = live = self.live_bytes + nbytes
        if live > self.peak_bytes:
            self.peak_bytes = live
        return handle

    def node_of(self, handle: int) -> int:
        """Where the bytes behind a handle lie.

        Raises:
            SimulationError: the handle was released.
        """
        held = self._held.get(handle)
        if held is None:
            raise SimulationError(f"handle {handle} is read after it was released")
        return held[1]

    def release(self, handles: tuple[int, ...]) -> None:
        """Forget these handles.

        Raises:
            SimulationError: one is not live.
        """
        held = self._held
        for handle in handles:
            found = held.pop(handle, None)
            if found is None:
                raise SimulationError(f"handle {handle} is released twice")
            self.live_bytes -= found[0]


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
        handles = {ref.handle: None for payload in action.outputs for ref in payload.refs}
        if handles:
            self._store.release(tuple(handles))
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
