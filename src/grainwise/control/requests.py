"""One request on its way through the DAG: which values it has, which items have become ready, which handles it holds.

Consecutive items travel as one range, so a fan-out of n costs one entry here and O(batches) events.
"""

from collections.abc import Iterator

from msgspec import Struct

from grainwise.control.routing import Fan, Group, Path, Routing, payload_size
from grainwise.domain.extent import is_skipped
from grainwise.domain.graph import Source
from grainwise.domain.time import Instant
from grainwise.domain.values import SKIPPED, Payload, Ref

EMPTY = Payload((), "many")


class Request(Struct, gc=False):
    """The mutable state of a request in flight.

    ``values`` is keyed by (source number, path...). ``need`` counts, per (group, outer path...), how many inputs each item
    still waits for. ``fans`` counts, per (fan-out, path...), the results still missing. ``live`` holds a count of references
    per handle. ``queued`` maps the sequence number of each waiting range to its queue's mask. ``running`` counts ranges inside
    invocations. ``done`` is the mask of the stages that have run for the whole request. ``homes`` names, where there are
    several, the node on which a value was made.
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
    done: int = 0
    homes: dict[tuple[int, ...], str] = {}


class Ready(Struct, gc=False):
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

    def complete(self, part: Group, outer: Path, index: int, outputs: tuple[Payload, ...], home: str = "") -> None:
        """Publish what one item came to, for which ``part`` ran on the node ``home``."""
        if part.depth:
            path: Path = (*outer, index)
        else:
            path = ()
            self.request.done |= part.mask
        produced = list(zip(part.outputs, part.uses, outputs, strict=True))
        if part.hidden:
            # Joins come first, those that nobody reads too: a list that was taken apart inside is not taken apart again.
            produced.reverse()
            for number in part.closed:
                self.request.values[(number, *path)] = EMPTY
        for number, uses, payload in produced:
            if home:
                self.request.homes[(number, *path)] = home
            self._publish(number, path, payload, uses, part.hidden)

    def settle(self) -> None:
        """Pass over the ready items that run nothing because their branch was not taken."""
        if self.ready:
            self._skip()

    def consume(self, part: Group, payloads: tuple[Payload, ...]) -> None:
        """Give back the references that one item held on its inputs, for which ``part`` ran."""
        for at, count in part.gives:
            for ref in payloads[at].refs:
                self._give_back(ref.handle, count)

    def _give_back(self, handle: int, count: int) -> None:
        live = self.request.live
        held = live.get(handle)
        if held is None:
            return
        if held > count:
            live[handle] = held - count
        else:
            del live[handle]
            self.released.append(handle)

    def inputs(self, group: int, outer: Path, index: int) -> tuple[Payload, ...]:
        """The payloads of an item, in the order of its extent's inputs."""
        return inputs_of(self.request, self.routing, self.routing.groups[group], outer, index)

    def size(self, ready: Ready) -> float:
        """The sum of the sizes of a range, as its first stage measures them."""
        compiled = self.routing.groups[ready.group]
        total = 0.0
        for position, at in compiled.sized:
            number = compiled.inputs[position]
            if not compiled.depth:
                total += payload_size(self.request.values[(number,)], at)
                continue
            fan = self.routing.fan_by_element.get(number)
            if fan is not None and fan.depth + 1 == compiled.depth:
                refs = list_of(self.request, self.routing, fan, ready.outer).refs[ready.lo : ready.hi]
                total += payload_size(Payload(refs), at)
                continue
            for index in range(ready.lo, ready.hi):
                total += payload_size(resolve(self.request, self.routing, number, (*ready.outer, index)), at)
        return total

    def publish(self, number: int, path: Path, payload: Payload) -> None:
        """A value is known: count it, wake its readers, open the fan-outs over it, close the ones it completes."""
        self._publish(number, path, payload, self.routing.sources[number].uses, 0)

    def _publish(self, number: int, path: Path, payload: Payload, uses: int, hidden: int) -> None:
        request = self.request
        request.values[(number, *path) if path else (number,)] = payload
        if uses:
            live = request.live
            for ref in payload.refs:
                live[ref.handle] = uses
        else:
            self.released.extend([ref.handle for ref in payload.refs])
        self._announce(number, path, hidden)

    def _announce(self, number: int, path: Path, hidden: int = 0) -> None:
        """Wake whoever waits for a value, but none of the stages of ``hidden``, which have run with it."""
        use = self.routing.sources[number]
        if use.is_final:
            self.request.outputs_left -= 1
        for each in use.closes:
            self._close(each, path[:-1])
        for group in use.readers:
            if not hidden >> group & 1:
                self._wake(group, path)
        for each in use.opens:
            fan = self.routing.fan_by_each[each]
            if fan.depth == len(path):
                self._try_open(fan, path)
            else:
                for outer in list(self._opened(fan.scope, path)):
                    self._try_open(fan, outer)

    def _opened(self, scope: tuple[int, ...], path: Path) -> Iterator[Path]:
        """The places of ``scope`` below ``path`` whose fan-outs are open."""
        if len(path) == len(scope):
            yield path
            return
        each = scope[len(path)]
        if (each, *path) in self.request.fans:
            for index in range(self._count(self.routing.fan_by_each[each], path)):
                yield from self._opened(scope, (*path, index))

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

    def _try_open(self, fan: Fan, path: Path) -> None:
        """Take a list apart once everything is known that decides on it."""
        request = self.request
        if (fan.each, *path) in request.fans or (fan.gathered, *path) in request.values:
            return
        if not all(self._is_known(number, path) for number in fan.waits):
            return
        items = list_of(self.request, self.routing, fan, path)
        if items.shape == "skipped" or self._is_refused(fan, path):
            if fan.holds:
                for ref in items.refs:
                    self._give_back(ref.handle, fan.holds)
            self._join(fan, path, SKIPPED)
        elif not items.refs:
            self._join(fan, path, EMPTY)
        else:
            self._open(fan, path, len(items.refs))

    def _open(self, fan: Fan, path: Path, count: int) -> None:
        request = self.request
        request.fans[(fan.each, *path)] = count * len(fan.results)
        for group in fan.groups:
            compiled = self.routing.groups[group]
            missing = 0
            for number in compiled.inputs:
                if number != fan.element and not self._is_known(number, path):
                    missing += 1
            request.need[(group, *path)] = [missing] * count
            if not missing:
                self.ready.append(Ready(group, path, 0, count))
        for each in fan.eager:
            inner = self.routing.fan_by_each[each]
            for index in range(count):
                self._try_open(inner, (*path, index))

    def _is_known(self, number: int, path: Path) -> bool:
        """Whether an item below ``path`` can read a source already; what lives deeper than ``path`` is yet to come."""
        depth = self.routing.sources[number].depth
        if depth > len(path):
            return False
        return number in self.routing.fan_by_element or (number, *path[:depth]) in self.request.values

    def _is_refused(self, fan: Fan, path: Path) -> bool:
        """Whether a guard around the whole fan-out is known to refuse."""
        for numbers, guard in fan.guards:
            for number in numbers:
                payload = resolve(self.request, self.routing, number, path)
                if payload.shape != "skipped" and payload.key is not None and not guard.admits(payload.key):
                    return True
        return False

    def _close(self, each: int, outer: Path) -> None:
        """One more result of a fan-out is known; with the last one the join is."""
        fans = self.request.fans
        key = (each, *outer)
        left = fans[key] - 1
        if left:
            fans[key] = left
            return
        del fans[key]
        fan = self.routing.fan_by_each[each]
        values = self.request.values
        refs: list[Ref] = []
        is_skipped = True
        for index in range(self._count(fan, outer)):
            for number in fan.results:
                payload = values[(number, *outer, index)]
                if payload.shape != "skipped":
                    refs.extend(payload.refs)
                    is_skipped = False
                    break
        self._join(fan, outer, SKIPPED if is_skipped else Payload(tuple(refs), "many"))

    def _join(self, fan: Fan, path: Path, joined: Payload) -> None:
        if not path:
            self.request.done |= self.routing.graph.body_masks[fan.each]
        # The references were counted when each result was published, so the join itself adds none.
        self.request.values[(fan.gathered, *path)] = joined
        self._announce(fan.gathered, path)

    def _count(self, fan: Fan, outer: Path) -> int:
        return len(list_of(self.request, self.routing, fan, outer).refs)

    def _add(self, group: int, outer: Path, index: int) -> None:
        ready = self.ready
        if ready:
            last = ready[-1]
            if last.group == group and last.hi == index and last.outer == outer and self.routing.groups[group].depth:
                last.hi = index + 1
                return
        ready.append(Ready(group, outer, index, index + 1))

    def _skip(self) -> None:
        kept: list[Ready] = []
        while self.ready:
            pending, self.ready = self.ready, []
            for entry in pending:
                self._skip_range(entry, kept)
        self.ready = kept

    def _skip_range(self, entry: Ready, kept: list[Ready]) -> None:
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
            self.consume(compiled, payloads)
            self.complete(compiled, entry.outer, index, tuple(SKIPPED for _ in compiled.outputs))
        if start < entry.hi:
            kept.append(Ready(entry.group, entry.outer, start, entry.hi))

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


def inputs_of(request: Request, routing: Routing, group: Group, outer: Path, index: int) -> tuple[Payload, ...]:
    """The payloads of an item, in the order of its extent's inputs."""
    if not group.depth:
        values = request.values
        return tuple([values[(number,)] for number in group.inputs])
    path = (*outer, index)
    return tuple([resolve(request, routing, number, path) for number in group.inputs])


def list_of(request: Request, routing: Routing, fan: Fan, outer: Path) -> Payload:
    """The list that a fan-out takes apart, whichever option of a merge it came from."""
    for number in fan.over:
        payload = resolve(request, routing, number, outer)
        if payload.shape != "skipped":
            return payload
    return SKIPPED


def resolve(request: Request, routing: Routing, number: int, path: Path) -> Payload:
    """The value of a source for the item at ``path``."""
    fan = routing.fan_by_element.get(number)
    if fan is not None:
        whole = list_of(request, routing, fan, path[: fan.depth])
        return Payload((whole.refs[path[fan.depth]],))
    return request.values[(number, *path[: routing.sources[number].depth])]
