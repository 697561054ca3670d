"""What is inside a request: how often each stage runs, the sizes that it sees, the lengths of what it hands on.

Kinds of requests come from the samples of a profile, so that fan-outs, branches and sizes of one request belong together.
Every value of a simulated request is a function of its kind and of the place of the value in the graph, so no value has to be
kept.
"""

from collections.abc import Sequence

from msgspec import Struct

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.extent import Extent, exploded_sources, keyed_sources, leaves, make_extent
from grainwise.domain.graph import Element, Gathered, Graph, Guard, Input, Output, Source

Key = bool | int | str


class Kind(Struct, frozen=True):
    """A kind of request.

    Per stage of the graph: ``counts`` executions in one request, ``sizes`` mean size of an item as the stage measures it, and
    ``output_bytes`` the length of what one item comes to. ``input_bytes`` are the lengths of the entry values.

    ``factors`` is the time of a call over what its size predicts, ``splits`` the number of calls over the least that batches
    allow, since items of different shape do not share a call; both are 1 where they are empty.
    """

    counts: tuple[int, ...]
    sizes: tuple[float, ...]
    output_bytes: tuple[int, ...]
    input_bytes: tuple[int, ...]
    factors: tuple[float, ...] = ()
    splits: tuple[float, ...] = ()


class Value(Struct, frozen=True, gc=False):
    """What a payload is made of: references with their length and sizes, or a skipped token, and the key of a branch."""

    count: int
    nbytes: int
    sizes: tuple[float, ...]
    is_many: bool = False
    is_skipped: bool = False
    key: Key | None = None


class Work(Struct, frozen=True, gc=False):
    """What one item of an extent comes to: per stage that runs (stage, executions, sum of sizes), and its outputs."""

    calls: tuple[tuple[int, int, float], ...]
    outputs: tuple[Value, ...]


class Contents:
    """Answers what is inside requests of one app.

    Args:
        graph: the app's DAG.
        kinds: at least one, each agreeing with the graph.

    Raises:
        ConfigurationError: a kind does not agree with the graph.
    """

    def __init__(self, graph: Graph, kinds: Sequence[Kind]) -> None:
        self.graph = graph
        self.kinds = tuple(kinds)
        if not kinds:
            raise ConfigurationError("a simulated app needs at least one kind of request")
        for kind in kinds:
            lengths = {len(kind.counts), len(kind.sizes), len(kind.output_bytes)}
            if lengths != {len(graph.stages)} or len(kind.input_bytes) != len(graph.input_names):
                raise ConfigurationError(
                    f"a kind of request describes {len(kind.counts)} stages and {len(kind.input_bytes)} entry values; "
                    f"the app has {len(graph.stages)} and {len(graph.input_names)}"
                )
        self._many = frozenset(exploded_sources(graph))
        self._keyed = keyed_sources(graph)
        self._keys = {source: self._keys_of(source) for source in self._keyed}
        self._elements = tuple(self._elements_per_scope(kind) for kind in kinds)
        self._works: dict[tuple[int, int, tuple[int, ...], float], Work] = {}
        self._entries: dict[tuple[int, float], tuple[Value, ...]] = {}
        self._extents: dict[int, Extent] = {}

    def extent(self, mask: int) -> Extent:
        """The extent of a mask."""
        found = self._extents.get(mask)
        if found is None:
            found = self._extents[mask] = make_extent(self.graph, mask)
        return found

    def entries(self, kind: int, scale: float) -> tuple[Value, ...]:
        """The entry values of a request of a kind, its sizes ``scale`` times those of the sample."""
        found = self._entries.get((kind, scale))
        if found is None:
            found = tuple(self._value(kind, Input(at), (), scale) for at in range(len(self.graph.input_names)))
            if len(self._entries) < MAX_WORKS:
                self._entries[(kind, scale)] = found
        return found

    def work(self, kind: int, mask: int, path: tuple[int, ...], scale: float) -> Work:
        """What one item of an extent runs and hands on."""
        found = self._works.get((kind, mask, path, scale))
        if found is None:
            extent = self.extent(mask)
            calls: list[tuple[int, int, float]] = []
            for stage in extent.stages:
                count = self._executions(kind, stage, path)
                if count:
                    calls.append((stage, count, count * self.kinds[kind].sizes[stage] * scale))
            outputs = tuple(self._value(kind, source, path, scale) for source in extent.outputs)
            found = Work(tuple(calls), outputs)
            if len(self._works) < MAX_WORKS:
                self._works[(kind, mask, path, scale)] = found
        return found

    # Fan-outs

    def _elements_per_scope(self, kind: Kind) -> dict[tuple[int, ...], int]:
        """How many items there are at each scope in one request of a kind."""
        graph = self.graph
        found: dict[tuple[int, ...], int] = {(): 1}
        for each, node in enumerate(graph.eaches):
            scope = (*node.scope, each)
            deeper = [kind.counts[at] for at, stage in enumerate(graph.stages) if stage.scope[: len(scope)] == scope]
            # A fan-out whose body is nothing but another fan-out has no stage that tells how many elements it has.
            found[scope] = self._items_at(kind, scope) or min(1, max(deeper, default=0))
        return found

    def _items_at(self, kind: Kind, scope: tuple[int, ...]) -> int:
        """Items at a scope: executions of its unguarded stages, or of the branches of its choices together."""
        graph = self.graph
        plain = 0
        branches: dict[Source, dict[Key | None, int]] = {}
        for index, node in enumerate(graph.stages):
            if node.scope != scope:
                continue
            own = [guard for guard in node.guards if graph.scope_of(guard.on) == scope]
            if not own:
                plain = max(plain, kind.counts[index])
            else:
                taken = branches.setdefault(own[0].on, {})
                taken[own[0].equals] = max(taken.get(own[0].equals, 0), kind.counts[index])
        return max(plain, *(sum(each.values()) for each in branches.values()), 0) if branches else plain

    def _items_below(self, kind: int, scope: tuple[int, ...], path: tuple[int, ...]) -> int:
        """Items at ``scope`` below the item at ``path`` of an outer scope; spread evenly, the first ones having one more."""
        counts = self._elements[kind]
        outer = len(path)
        if outer == len(scope):
            return 1
        total = 0
        index = self._linear(kind, scope[:outer], path)
        indices = range(index, index + 1)
        for depth in range(outer, len(scope)):
            parents, children = counts[scope[:depth]], counts[scope[: depth + 1]]
            if not parents:
                return 0
            first = _first_child(indices.start, parents, children)
            until = _first_child(indices.stop, parents, children)
            indices = range(first, until)
            total = until - first
        return total

    def _linear(self, kind: int, scope: tuple[int, ...], path: tuple[int, ...]) -> int:
        """The number of an item among all items of its scope."""
        counts = self._elements[kind]
        index = 0
        for depth in range(len(scope)):
            index = _first_child(index, counts[scope[:depth]], counts[scope[: depth + 1]]) + path[depth]
        return index

    # Branches

    def _keys_of(self, source: Source) -> tuple[Key, ...]:
        """Every key that tells the branches of a choice apart, one for the branch that takes the rest included."""
        keys: list[Key] = []
        rest: tuple[Key, ...] | None = None
        for node in self.graph.stages:
            for guard in node.guards:
                if source not in leaves(self.graph, guard.on):
                    continue
                if guard.equals is None:
                    rest = guard.others
                elif guard.equals not in keys:
                    keys.append(guard.equals)
        if rest is not None:
            keys.append(_another(rest))
        return tuple(keys)

    def _taken(self, kind: int, source: Source) -> tuple[tuple[Key, int], ...]:
        """How many items of the scope of ``source`` take each branch."""
        counts = self.kinds[kind].counts
        found: list[tuple[Key, int]] = []
        for key in self._keys[source]:
            most = 0
            for index, node in enumerate(self.graph.stages):
                own = [guard for guard in node.guards if source in leaves(self.graph, guard.on)]
                if own and all(guard.admits(key) for guard in own):
                    # A fan-out inside a branch counts once.
                    inside = len(node.scope) > len(self.graph.scope_of(source))
                    most = max(most, min(counts[index], 1) if inside else counts[index])
            found.append((key, most))
        return tuple(found)

    def _key(self, kind: int, source: Source, path: tuple[int, ...]) -> Key | None:
        if source not in self._keys:
            return None
        scope = self.graph.scope_of(source)
        at = self._linear(kind, scope, path[: len(scope)])
        taken = self._taken(kind, source)
        for key, count in taken:
            if at < count:
                return key
            at -= count
        return max(taken, key=lambda each: each[1])[0]

    def _admits(self, kind: int, guards: Sequence[Guard], path: tuple[int, ...]) -> bool:
        for guard in guards:
            for leaf in leaves(self.graph, guard.on):
                if self._is_skipped(kind, leaf, path):
                    continue
                key = self._key(kind, leaf, path)
                if key is not None and not guard.admits(key):
                    return False
        return True

    def _is_skipped(self, kind: int, source: Source, path: tuple[int, ...]) -> bool:
        """Whether the value of a source at a place is the token of an untaken branch."""
        graph = self.graph
        if isinstance(source, Output):
            return not self._runs(kind, source.stage, path)
        if isinstance(source, Element):
            return self._is_skipped(kind, graph.eaches[source.each].over, path[: len(graph.eaches[source.each].scope)])
        if isinstance(source, Gathered):
            node = graph.eaches[source.each]
            outer = path[: len(node.scope)]
            if self._is_skipped(kind, node.over, outer) or not self._admits(kind, graph.body_guards(source.each), outer):
                return True
            inside = range(self._items_below(kind, (*node.scope, source.each), outer))
            return bool(inside) and all(self._is_skipped(kind, node.result, (*outer, at)) for at in inside)
        if isinstance(source, Input):
            return False
        return all(self._is_skipped(kind, option, path) for option in source.options)

    def _runs(self, kind: int, stage: int, path: tuple[int, ...]) -> bool:
        """Whether a stage runs for the item at ``path`` of its own scope."""
        node = self.graph.stages[stage]
        own = path[: len(node.scope)]
        if not self._admits(kind, node.guards, own):
            return False
        return not any(self._is_skipped(kind, source, own) for source in self.graph.reads(stage))

    def _executions(self, kind: int, stage: int, path: tuple[int, ...]) -> int:
        """How often a stage runs below the item at ``path``."""
        graph = self.graph
        node = graph.stages[stage]
        if len(node.scope) <= len(path):
            return int(self._runs(kind, stage, path))
        below = self._items_below(kind, node.scope, path)
        if not self._has_branches:
            return below
        return sum(self._runs(kind, stage, place) for place in self._places(kind, node.scope, path))

    @property
    def _has_branches(self) -> bool:
        return bool(self._keyed)

    def _places(self, kind: int, scope: tuple[int, ...], path: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The paths of the items at ``scope`` below the item at ``path``."""
        found = [path]
        for depth in range(len(path), len(scope)):
            found = [(*place, at) for place in found for at in range(self._items_below(kind, scope[: depth + 1], place))]
        return found

    # Values

    def _value(self, kind: int, source: Source, path: tuple[int, ...], scale: float) -> Value:
        graph, content = self.graph, self.kinds[kind]
        if self._is_skipped(kind, source, path):
            return Value(0, 0, (), is_skipped=True)
        key = self._key(kind, source, path)
        is_many = isinstance(source, Gathered) or source in self._many
        count = 1
        if isinstance(source, Gathered):
            node = graph.eaches[source.each]
            count = self._gathered(kind, source, path)
            nbytes = content.output_bytes[graph.producers(node.result)[0]]
        elif isinstance(source, Output):
            nbytes = content.output_bytes[source.stage]
        elif isinstance(source, Input):
            nbytes = content.input_bytes[source.index]
        else:
            raise ConfigurationError(f"{source} is no value that an extent hands on")
        if is_many and not isinstance(source, Gathered):
            count = self._list_length(kind, source, path)
            nbytes = nbytes // max(1, count)
        sizes = tuple(self._size(kind, consumer, source, count, is_many) * scale for consumer in graph.sized_consumers(source))
        return Value(count, max(1, round(nbytes * scale)), sizes, is_many, key=key)

    def _gathered(self, kind: int, source: Gathered, path: tuple[int, ...]) -> int:
        node = self.graph.eaches[source.each]
        outer = path[: len(node.scope)]
        inside = range(self._items_below(kind, (*node.scope, source.each), outer))
        if not self._has_branches:
            return len(inside)
        return sum(not self._is_skipped(kind, node.result, (*outer, at)) for at in inside)

    def _list_length(self, kind: int, source: Source, path: tuple[int, ...]) -> int:
        """Elements of a list that fan-outs take apart.

        Where several take it apart, the ones of branches that are not taken have no items to tell how many elements there are.
        """
        found = [
            self._items_below(kind, (*node.scope, each), path[: len(node.scope)])
            for each, node in enumerate(self.graph.eaches)
            if source in leaves(self.graph, node.over)
        ]
        return max(found, default=1)

    def _size(self, kind: int, consumer: int, source: Source, count: int, is_many: bool) -> float:
        """The size that a stage measures on one reference of a value: the whole's is the sum over its elements."""
        size = self.kinds[kind].sizes[consumer]
        reads_whole = is_many and source in leaves(self.graph, self.graph.stages[consumer].inputs[0])
        return size / max(1, count) if reads_whole else size


MAX_WORKS = 20_000
"""So many answers are remembered; sizes drawn from a continuous distribution would fill memory otherwise."""


def _first_child(index: int, parents: int, children: int) -> int:
    """The number of the first child of parent ``index`` where ``children`` are spread evenly over ``parents``."""
    if not parents:
        return 0
    each, more = divmod(children, parents)
    return index * each + min(index, more)


def _another(taken: Sequence[Key]) -> Key:
    """A key of the same type that is none of those."""
    if taken and isinstance(taken[0], bool):
        return not taken[0]
    if taken and isinstance(taken[0], int):
        return max(int(each) for each in taken) + 1
    return "".join(str(each) for each in taken) + "?"
