"""Following a flow once with stand-ins for values, so that its DAG is known before anything runs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

from grainwise.domain.errors import DeclarationError
from grainwise.domain.graph import EachNode, Element, Gathered, Graph, Guard, Input, Merged, Output, Source, StageNode
from grainwise.domain.values import ValueType
from grainwise.sdk.edges import fits
from grainwise.sdk.where import caller

_active: ContextVar["Trace | None"] = ContextVar("grainwise_trace", default=None)


def active() -> "Trace | None":
    """The trace that is being made now, if any."""
    return _active.get()


class Traced:
    """Stands for a value while a flow is followed. It may be handed to stages, ``each`` and ``choose``, and nothing else."""

    __slots__ = ("annotation_", "guards_", "scope_", "source_", "trace_", "type_")

    def __init__(self, trace: "Trace", source: Source, value_type: ValueType, annotation: object) -> None:
        self.trace_ = trace
        self.source_ = source
        self.type_ = value_type
        self.annotation_ = annotation
        self.scope_ = trace.scope
        self.guards_ = trace.guards

    def __repr__(self) -> str:
        return f"<{self.type_.annotation} in a flow>"

    def _refuse(self, what: str, mend: str) -> NoReturn:
        raise DeclarationError(
            f"{caller()}: the flow {what} of type {self.type_.annotation}, which does not exist while the flow is declared; "
            f"{mend}"
        )

    def _branch(self, *_: object) -> NoReturn:
        self._refuse("branches on or compares a value", "write choose(key, {...}, ...), with a stage that makes the key")

    def _walk(self, *_: object) -> NoReturn:
        self._refuse(
            "goes through a value (for, map, list, len, in or unpacking)",
            "write each(stage, values), or let a stage return what is needed as values of their own",
        )

    def _look(self, *_: object) -> NoReturn:
        self._refuse("looks into a value", "let a stage do it and return the part")

    def _compute(self, *_: object, **__: object) -> NoReturn:
        self._refuse("computes with a value", "let a stage do it: only stages, each and choose may take values of a flow")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__") and name.endswith("__"):
            # Protocol probes of Python itself (copying, array conversion) must see an ordinary absence.
            raise AttributeError(name)
        self._refuse(f"reads the attribute {name!r} of a value", "let a stage read it and return it")

    def __hash__(self) -> int:
        self._compute()

    def __eq__(self, other: object) -> bool:
        self._branch()

    def __bool__(self) -> bool:
        self._branch()

    def __str__(self) -> str:
        self._compute()

    def __format__(self, spec: str) -> str:
        self._compute()

    __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _branch
    __iter__ = __len__ = __contains__ = __reversed__ = _walk
    __getitem__ = __setitem__ = __delitem__ = _look
    __call__ = __enter__ = __await__ = _compute
    __int__ = __float__ = __index__ = __bytes__ = __array__ = __complex__ = __round__ = _compute
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _compute
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _compute
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __lshift__ = __rshift__ = _compute
    __neg__ = __pos__ = __abs__ = __invert__ = _compute


class Choice:
    """One ``choose``: the source of its key, the keys that have a branch, and whether any other key has one."""

    __slots__ = ("has_default", "keys", "on")

    def __init__(self, on: Source, keys: tuple[bool | int | str, ...], has_default: bool) -> None:
        self.on = on
        self.keys = keys
        self.has_default = has_default


class Trace:
    """The DAG as far as the flow has been followed. Also remembers the Python annotation of every source."""

    def __init__(self, app: str, flow: str) -> None:
        self.app = app
        self.flow = flow
        self.scope: tuple[int, ...] = ()
        self.guards: tuple[Guard, ...] = ()
        self.nodes: list[StageNode] = []
        self.eaches: list[EachNode | None] = []
        self.choices: list[Choice] = []
        self.annotations: dict[Source, object] = {}
        self.types: dict[Source, ValueType] = {}
        self._overs: list[Source] = []
        self._depends: list[frozenset[int]] = []
        self._uses: dict[str, int] = {}
        self._bodies: list[object] = []

    def value(self, source: Source, value_type: ValueType, annotation: object) -> Traced:
        """A stand-in for ``source`` in the present scope and branch."""
        self.annotations[source] = annotation
        self.types[source] = value_type
        return Traced(self, source, value_type, annotation)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Make this trace the active one."""
        token = _active.set(self)
        try:
            yield
        finally:
            _active.reset(token)

    def accept(self, value: object, subject: str) -> Traced:
        """``value`` as a stand-in that may be read here.

        Raises:
            DeclarationError: it is a constant, of another flow, or was made in a branch or body that has ended.
        """
        if not isinstance(value, Traced):
            raise DeclarationError(
                f"{caller()}: {subject} is the constant {value!r:.60}; values of a flow come from its entry or from stages: "
                "give it to the stage as a default, or make it an entry value"
            )
        if value.trace_ is not self:
            raise DeclarationError(f"{caller()}: {subject} belongs to another flow; pass it in as an entry value")
        if self.scope[: len(value.scope_)] != value.scope_:
            raise DeclarationError(
                f"{caller()}: {subject} was made inside an each body; return it from the body and read the list"
            )
        if self.guards[: len(value.guards_)] != value.guards_:
            raise DeclarationError(
                f"{caller()}: {subject} was made in a branch of choose, which may not run; return it from the branch"
            )
        return value

    def add_stage(
        self, declared: str, subjects: tuple[str, ...], wanted: tuple[tuple[ValueType, object], ...], given: tuple[object, ...],
        output: tuple[ValueType, object],
    ) -> Traced:  # fmt: skip
        """A stage at this place of the DAG; ``subjects`` name its parameters in messages.

        Raises:
            DeclarationError: an argument is missing, may not be read here, or has a type that the parameter does not take.
        """
        if len(given) != len(wanted):
            raise DeclarationError(
                f"{caller()}: stage {declared!r} takes {len(wanted)} values and is given {len(given)}; give one per parameter"
            )
        inputs: list[Source] = []
        for subject, (value_type, annotation), argument in zip(subjects, wanted, given, strict=True):
            value = self.accept(argument, f"{subject} of stage {declared!r}")
            if not fits(value.type_, value_type) or not _same_records(value.annotation_, annotation):
                raise DeclarationError(
                    f"{caller()}: {subject} of stage {declared!r} takes {value_type.annotation} and is given a value of type "
                    f"{value.type_.annotation}; change one of the annotations, or put a stage between that converts it"
                )
            inputs.append(value.source_)
        depends = frozenset[int]().union(
            *map(self._elements_of, inputs), *(self._elements_of(guard.on) for guard in self.guards)
        )
        if self.scope and self.scope[-1] not in depends:
            raise DeclarationError(
                f"{caller()}: stage {declared!r} is called in an each body and reads nothing of its element, so it does the "
                "same work for each; call it before the each and read its result in the body"
            )
        self._depends.append(depends)
        use = self._uses[declared] = self._uses.get(declared, 0) + 1
        name = declared if use == 1 else f"{declared}#{use}"
        self.nodes.append(StageNode(name, declared, tuple(inputs), self.scope, self.guards))
        return self.value(Output(len(self.nodes) - 1), *output)

    def add_each(self, body: Callable[..., object], items: object, element_annotation: Callable[[object], object]) -> Traced:
        """A fan-out over ``items`` whose body is followed once.

        Raises:
            DeclarationError: ``items`` is no list that can be taken apart here, or the body cannot be one.
        """
        over = self.accept(items, "what each goes over")
        element_type = over.type_.element
        if over.type_.kind != "list" or element_type is None:
            raise DeclarationError(
                f"{caller()}: each goes over a list, and this is a value of type {over.type_.annotation}; "
                "let a stage make a list of it, or call the stage on it directly"
            )
        if isinstance(over.source_, Element):
            raise DeclarationError(
                f"{caller()}: each inside each goes over the outer element itself; let a stage take that inner list first "
                "and return the list to go over"
            )
        if self.scope and self.scope[-1] not in self._elements_of(over.source_):
            raise DeclarationError(
                f"{caller()}: an each body goes over a list that has nothing to do with its element, so it would do the same "
                "work for each; do this each before the outer one and read its list in the body"
            )
        each = len(self.eaches)
        self.eaches.append(None)
        self._overs.append(over.source_)
        before = len(self.nodes)
        outer = self.scope
        self.scope = (*outer, each)
        try:
            element = self.value(Element(each), element_type, element_annotation(over.annotation_))
            made = self._result_of(self._follow_body(body, (element,)), "an each body", before)
        finally:
            self.scope = outer
        if made.scope_ != (*outer, each):
            raise DeclarationError(
                f"{caller()}: an each body returns a value from outside it; return what one of its own stages made"
            )
        if any(isinstance(leaf, Gathered) for leaf in _leaves(made.source_)):
            raise DeclarationError(
                f"{caller()}: an each body returns the list of another each; let a stage of the body take that list first"
            )
        self.eaches[each] = EachNode(over.source_, made.source_, outer)
        annotation = list[made.annotation_]  # type: ignore[name-defined]
        value_type = ValueType("list", f"list[{made.type_.annotation}]", element=made.type_)
        return self.value(Gathered(each), value_type, annotation)

    def add_choose(
        self,
        key: object,
        branches: Mapping[Any, Callable[..., object]],
        otherwise: Callable[..., object] | None,
        arguments: tuple[object, ...],
    ) -> Traced:
        """A choice between branches, each of which is followed once under its guard.

        Raises:
            DeclarationError: the key cannot be one, or the branches do not return the same type.
        """
        on = self.accept(key, "the key of choose")
        keys = _checked_keys(tuple(branches), on)
        for argument in arguments:
            self.accept(argument, "an argument of choose")
        guards = [Guard(on.source_, wanted) for wanted in keys]
        bodies = list(branches.values())
        if otherwise is not None:
            guards.append(Guard(on.source_, None, keys))
            bodies.append(otherwise)
        self.choices.append(Choice(on.source_, keys, otherwise is not None))
        outer = self.guards
        results: list[Traced] = []
        for guard, body in zip(guards, bodies, strict=True):
            before = len(self.nodes)
            self.guards = (*outer, guard)
            try:
                made = self._result_of(self._follow_body(body, arguments), "a branch of choose", before)
            finally:
                self.guards = outer
            if made.guards_ != (*outer, guard) or made.scope_ != self.scope:
                raise DeclarationError(
                    f"{caller()}: a branch of choose returns a value from outside it; return what one of its own stages made"
                )
            if results and not (fits(made.type_, results[0].type_) and fits(results[0].type_, made.type_)):
                raise DeclarationError(
                    f"{caller()}: the branches of choose return {results[0].type_.annotation} and {made.type_.annotation}; "
                    "let all of them return the same type"
                )
            results.append(made)
        merged = Merged(tuple(result.source_ for result in results))
        return self.value(merged, results[0].type_, results[0].annotation_)

    def finish(self, inputs: tuple[str, ...], results: Mapping[str, object]) -> Graph:
        """The graph, once the flow has returned ``results`` by name.

        Raises:
            DeclarationError: no stage is used, or a result is no value that a stage made.
        """
        if not self.nodes:
            raise DeclarationError(f"{self.flow}: the flow of app {self.app!r} uses no stage; call a stage in it")
        outputs: list[Source] = []
        for name, result in results.items():
            value = self.accept(result, f"the result {name!r} of the flow")
            if isinstance(value.source_, Input):
                raise DeclarationError(f"{self.flow}: the flow returns its entry value {name!r} as it came; leave it out")
            if value.source_ in outputs:
                raise DeclarationError(f"{self.flow}: the flow returns one value twice, as {name!r} again; return it once")
            outputs.append(value.source_)
        eaches = tuple(each for each in self.eaches if each is not None)
        return Graph(inputs, tuple(self.nodes), eaches, tuple(outputs), tuple(results))

    def _elements_of(self, source: Source) -> frozenset[int]:
        """The fan-outs whose element a value depends on."""
        if isinstance(source, Output):
            return self._depends[source.stage]
        if isinstance(source, Element):
            return self._elements_of(self._overs[source.each]) | {source.each}
        if isinstance(source, Gathered):
            each = self.eaches[source.each]
            result = frozenset[int]() if each is None else self._elements_of(each.result) - {source.each}
            return result | self._elements_of(self._overs[source.each])
        if isinstance(source, Merged):
            return frozenset[int]().union(*map(self._elements_of, source.options))
        return frozenset()

    def _result_of(self, result: object, owner: str, before: int) -> Traced:
        if len(self.nodes) == before:
            raise DeclarationError(f"{caller()}: {owner} uses no stage; call a stage in it, or leave it out")
        if result is None:
            raise DeclarationError(f"{caller()}: {owner} returns nothing; return what one of its stages made")
        return self.accept(result, f"the result of {owner}")

    def _follow_body(self, body: Callable[..., object], arguments: tuple[object, ...]) -> object:
        if body in self._bodies:
            raise DeclarationError(
                f"{caller()}: a cycle: this each or choose body leads back to itself; a flow is followed once and cannot "
                "repeat without end: do the repetition inside a stage"
            )
        self._bodies.append(body)
        try:
            return body(*arguments)
        finally:
            self._bodies.pop()


def _leaves(source: Source) -> tuple[Source, ...]:
    if isinstance(source, Merged):
        return tuple(leaf for option in source.options for leaf in _leaves(option))
    return (source,)


def _same_records(given: object, wanted: object) -> bool:
    """Whether two annotations name the same classes where they name classes; lists and mappings are looked through."""
    from_given, from_wanted = getattr(given, "__args__", ()), getattr(wanted, "__args__", ())
    if isinstance(given, type) and isinstance(wanted, type) and not from_given and not from_wanted:
        return given is wanted or (given, wanted) == (int, float) or not (_is_record(given) or _is_record(wanted))
    if len(from_given) == len(from_wanted) and getattr(given, "__origin__", None) in (list, dict):
        return all(_same_records(one, other) for one, other in zip(from_given, from_wanted, strict=True))
    return True


def _is_record(annotation: type) -> bool:
    return hasattr(annotation, "__dataclass_fields__") or hasattr(annotation, "__struct_fields__")


def _checked_keys(keys: tuple[object, ...], on: Traced) -> tuple[bool | int | str, ...]:
    kinds = {"boolean": bool, "integer": int, "text": str}
    wanted = kinds.get(on.type_.kind)
    if wanted is None:
        raise DeclarationError(
            f"{caller()}: the key of choose has type {on.type_.annotation}; let a stage make a bool, an int or a str of it"
        )
    if not keys:
        raise DeclarationError(f"{caller()}: choose has no branches; give it a mapping from keys to stages")
    checked: list[bool | int | str] = []
    for key in keys:
        if type(key) is not wanted or not isinstance(key, bool | int | str):
            raise DeclarationError(
                f"{caller()}: choose reads a key of type {on.type_.annotation} and has a branch for {key!r}; "
                f"write every branch key as {wanted.__name__}"
            )
        checked.append(key)
    return tuple(checked)
