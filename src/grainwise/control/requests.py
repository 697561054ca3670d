"""One request on its way through the DAG: which values it has, which items have become ready, which handles it holds.

Consecutive items travel as one range, so a fan-out of n costs one entry here and O(batches) events.
"""

from msgspec import Struct

from grainwise.control.routing import Path, Routing
from grainwise.domain.extent import is_skipped
from grainwise.domain.graph import Source
from grainwise.domain.time import Instant
from grainwise.domain.values import SKIPPED, Payload, Ref


class Request(Struct):
    """The mutable state of a request in flight.

    ``values`` is keyed by (source number, path...). ``need`` counts, per (group, outer path...), how many inputs each item
    still waits for. ``fans`` counts, per (fan-out, path...), the results still missing. ``live`` holds a count of references
    per handle. ``queued`` maps the sequence number of each waiting range to its queue's mask.
    """

    number: int
    app: str
    plan: str
    arrived: Instant
    due: Instant
    deadline: Instant
    outputs_left: int
    values: dict[tuple[int, ...], Payload] = {}
    need: dict[tuple[int, ...], list[int]] = {}
    fans: dict[tuple[int, ...], int] = {}
    live: dict[int, int] = {}
    queued: dict[int, int] = {}
    running: int = 0
    is_ended: bool = False


class Ready(Struct):
    """Items ``lo:hi`` of ``group`` under ``outer`` (the path without its last index) that can run now."""

    group: int
    outer: Path
    lo: int
    hi: int


class Flow:
    """One step of a request through its routing: what became ready and what may be released."""

    __slots__ = ("ready", "released", "request", "routing")

    def __init__(self, request: Request, routing: Routing) -> None:
        self.request = request
        self.routing = routing
        self.ready: list[Ready] = []
        self.released: list[int] = []

    def begin(self, inputs: tuple[Payload, ...]) -> None:
        """Give the request its entry values."""
        need = self.request.need
        for group, count in self.routing.root_groups:
            need[(group,)] = [count]
            if not count:
                self._add(group, (), 0)
        for number, payload in enumerate(inputs):
            self.publish(number, (), payload)
        self._skip()

    def complete(self, group: int, outer: Path, index: int, outputs: tuple[Payload, ...]) -> None:
        """Publish what one item of a group came to."""
        compiled = self.routing.groups[group]
        path = (*outer, index) if compiled.depth else ()
        for number, payload in zip(compiled.outputs, outputs, strict=True):
            self.publish(number, path, payload)

    def settle(self) -> None:
        """Pass over the ready items that run nothing because their branch was not taken."""
        self._skip()

    def consume(self, group: int, payloads: tuple[Payload, ...]) -> None:
        """Give back the references that one item held on its inputs."""
        live = self.request.live
        for at in self.routing.groups[group].counted:
            for ref in payloads[at].refs:
                left = live.get(ref.handle, 0) - 1
                if left > 0:
                    live[ref.handle] = left
                elif live.pop(ref.handle, None) is not None:
                    self.released.append(ref.handle)

    def inputs(self, group: int, outer: Path, index: int) -> tuple[Payload, ...]:
        """The payloads of an item, in the order of its extent's inputs."""
        compiled = self.routing.groups[group]
        path = (*outer, index) if compiled.depth else ()
        return tuple([self._resolve(number, path) for number in compiled.inputs])

    def publish(self, number: int, path: Path, payload: Payload) -> None:
        """A value is known: count it, wake its readers, open the fan-outs over it, close the ones it completes."""
        routing, request = self.routing, self.request
        request.values[(number, *path)] = payload
        uses = routing.uses[number]
        for ref in payload.refs:
            if uses:
                request.live[ref.handle] = request.live.get(ref.handle, 0) + uses
            else:
                self.released.append(ref.handle)
        if number in routing.final:
            request.outputs_left -= 1
        for each in routing.results[number]:
            self._close(each, path[:-1])
        for group in routing.readers[number]:
            self._wake(group, path)
        for each in routing.opens[number]:
            self._open(each, path, payload)

    def _wake(self, group: int, path: Path) -> None:
        depth = self.routing.groups[group].depth
        need = self.request.need
        if depth == len(path):
            outer, index = (path[:-1], path[-1]) if depth else ((), 0)
            waits = need[(group, *outer)]
            waits[index] -= 1
            if not waits[index]:
                self._add(group, outer, index)
            return
        for key, waits in need.items():
            if key[0] == group and key[1 : 1 + len(path)] == path:
                for index in range(len(waits)):
                    waits[index] -= 1
                    if not waits[index]:
                        self._add(group, key[1:], index)

    def _open(self, each: int, path: Path, payload: Payload) -> None:
        """A list is known: make its items, or pass on at once what an empty or skipped list comes to."""
        fan = self.routing.fan_by_each[each]
        if payload.shape == "skipped":
            known = [self.request.values.get((number, *path)) for number in fan.over]
            if all(value is not None and value.shape == "skipped" for value in known):
                self.publish(fan.gathered, path, SKIPPED)
            return
        count = len(payload.refs)
        if not count:
            self.publish(fan.gathered, path, Payload((), "many"))
            return
        self.request.fans[(each, *path)] = count * len(fan.results)
        for group in fan.groups:
            compiled = self.routing.groups[group]
            missing = 0
            for number in compiled.inputs:
                depth = self.routing.depth_by_source[number]
                is_known = number == fan.element or (depth <= len(path) and self._is_known(number, path[:depth]))
                missing += not is_known
            self.request.need[(group, *path)] = [missing] * count
            if not missing:
                self.ready.append(Ready(group, path, 0, count))

    def _is_known(self, number: int, path: Path) -> bool:
        return self.routing.fan_by_element.get(number) is not None or (number, *path) in self.request.values

    def _close(self, each: int, outer: Path) -> None:
        """One more result of a fan-out is known; with the last one the join is."""
        key = (each, *outer)
        self.request.fans[key] -= 1
        if self.request.fans[key]:
            return
        del self.request.fans[key]
        fan = self.routing.fan_by_each[each]
        refs: list[Ref] = []
        for index in range(self._count(each, outer)):
            for number in fan.results:
                payload = self.request.values[(number, *outer, index)]
                if payload.shape != "skipped":
                    refs.extend(payload.refs)
                    break
        joined = Payload(tuple(refs), "many")
        # The references were counted when each result was published, so the join itself adds none.
        self.request.values[(fan.gathered, *outer)] = joined
        if fan.gathered in self.routing.final:
            self.request.outputs_left -= 1
        for outer_each in self.routing.results[fan.gathered]:
            self._close(outer_each, outer[:-1])
        for group in self.routing.readers[fan.gathered]:
            self._wake(group, outer)
        for inner_each in self.routing.opens[fan.gathered]:
            self._open(inner_each, outer, joined)

    def _count(self, each: int, outer: Path) -> int:
        return len(self._list(each, outer).refs)

    def _list(self, each: int, outer: Path) -> Payload:
        """The list that a fan-out takes apart, whichever option of a merge it came from."""
        values = self.request.values
        for number in self.routing.fan_by_each[each].over:
            payload = values.get((number, *outer))
            if payload is not None and payload.shape != "skipped":
                return payload
        return SKIPPED

    def _resolve(self, number: int, path: Path) -> Payload:
        routing = self.routing
        fan = routing.fan_by_element.get(number)
        if fan is not None:
            whole = self._list(fan.each, path[: fan.depth])
            return Payload((whole.refs[path[fan.depth]],))
        return self.request.values[(number, *path[: routing.depth_by_source[number]])]

    def _add(self, group: int, outer: Path, index: int) -> None:
        ready = self.ready
        if ready:
            last = ready[-1]
            if last.group == group and last.hi == index and last.outer == outer and self.routing.groups[group].depth:
                last.hi = index + 1
                return
        ready.append(Ready(group, outer, index, index + 1))

    def _skip(self) -> None:
        if not self.routing.has_guards:
            return
        kept: list[Ready] = []
        while self.ready:
            entry = self.ready.pop(0)
            compiled = self.routing.groups[entry.group]
            start = entry.lo
            for index in range(entry.lo, entry.hi):
                payloads = self.inputs(entry.group, entry.outer, index)
                by_source: dict[Source, Payload] = dict(zip(compiled.extent.inputs, payloads, strict=True))
                if not is_skipped(self.routing.graph, compiled.extent, by_source):
                    continue
                if start < index:
                    kept.append(Ready(entry.group, entry.outer, start, index))
                start = index + 1
                self.consume(entry.group, payloads)
                self.complete(entry.group, entry.outer, index, tuple(SKIPPED for _ in compiled.outputs))
            if start < entry.hi:
                kept.append(Ready(entry.group, entry.outer, start, entry.hi))
        self.ready = kept

    def results(self) -> tuple[Payload, ...]:
        """The outputs of the app, once ``outputs_left`` is 0."""
        found: list[Payload] = []
        for options in self.routing.output_leaves:
            chosen = SKIPPED
            for number in options:
                payload = self.request.values[(number,)]
                if payload.shape != "skipped":
                    chosen = payload
                    break
            found.append(chosen)
        return tuple(found)
