"""An app: named stages, one flow, an SLO; and its declaration as plain data."""

import hashlib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ParamSpec, Protocol, SupportsIndex, TypeVar, get_args, get_origin, get_type_hints, overload

import msgspec

from grainwise.domain.app import AppSpec, DeviceKind, Slo
from grainwise.domain.errors import DeclarationError
from grainwise.domain.graph import Graph, Input, Source
from grainwise.domain.values import ValueType
from grainwise.sdk import samples as example_inputs
from grainwise.sdk import sizes
from grainwise.sdk.closures import check_captured
from grainwise.sdk.edges import describe, fits
from grainwise.sdk.flow import Flow
from grainwise.sdk.sizes import Size
from grainwise.sdk.stage import Failed, SizeFunction, Stage
from grainwise.sdk.trace import Choice, Trace, Traced
from grainwise.sdk.where import caller

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S", bound=example_inputs.SamplesFunction)


class Results(Protocol[R_co]):
    """A list as a result: covariant, so that a stage may return ``Batch[str]`` or ``Batch[str | Failed]``."""

    def pop(self, index: SupportsIndex = ..., /) -> R_co:
        """The part of a list that no text has: ``-> str`` is no batch of ``str``."""
        ...

    def __iter__(self) -> Iterator[R_co]: ...


_In1 = Callable[[list[A]], Results[R | Failed]]
_In2 = Callable[[list[A], list[B]], Results[R | Failed]]
_In3 = Callable[[list[A], list[B], list[C]], Results[R | Failed]]
_In4 = Callable[[list[A], list[B], list[C], list[D]], Results[R | Failed]]
_In5 = Callable[[list[A], list[B], list[C], list[D], list[E]], Results[R | Failed]]
_In6 = Callable[[list[A], list[B], list[C], list[D], list[E], list[F]], Results[R | Failed]]


class StageDecorator(Protocol):
    """What ``app.stage(max_batch=..., ...)`` returns: it makes a stage of a function.

    A class is declared with ``app.stage(Class, ...)``, because type checkers ignore what a class decorator returns.
    """

    @overload
    def __call__(self, declared: _In1[A, R], /) -> Stage[[A], R]: ...
    @overload
    def __call__(self, declared: _In2[A, B, R], /) -> Stage[[A, B], R]: ...
    @overload
    def __call__(self, declared: _In3[A, B, C, R], /) -> Stage[[A, B, C], R]: ...
    @overload
    def __call__(self, declared: _In4[A, B, C, D, R], /) -> Stage[[A, B, C, D], R]: ...
    @overload
    def __call__(self, declared: _In5[A, B, C, D, E, R], /) -> Stage[[A, B, C, D, E], R]: ...
    @overload
    def __call__(self, declared: _In6[A, B, C, D, E, F, R], /) -> Stage[[A, B, C, D, E, F], R]: ...


class App:
    """What an app file declares: stages, one flow and the SLO.

    Args:
        name: letters, digits, ``_`` and ``-``; part of its URL.
        slo: the fraction of requests that is to be answered within a latency.
        reject_late: refuse a request at arrival when it cannot meet its deadline.
        description: one sentence for people.

    Raises:
        DeclarationError: a name or a figure is out of range.
    """

    def __init__(self, name: str, *, slo: Slo, reject_late: bool = False, description: str = "") -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", name):
            raise DeclarationError(
                f"{caller()}: {name!r} cannot be the name of an app; use letters, digits, '_' and '-', at most 63"
            )
        if not (slo.latency_ms > 0 and 0 < slo.target <= 1):
            raise DeclarationError(f"{caller()}: app {name!r} has {slo}; latency_ms must be > 0 and target in (0, 1]")
        self.name = name
        self.slo = slo
        self.reject_late = reject_late
        self.description = description
        self.place = caller()
        self.neighbours = b""
        self.stages: dict[str, Stage[..., Any]] = {}
        self._flow: Flow[..., Any] | None = None
        self._traced: _TracedFlow | None = None
        self._samples: tuple[example_inputs.SamplesFunction, str] | None = None

    def __repr__(self) -> str:
        return f"<app {self.name!r}>"

    @overload
    def stage(
        self, declared: Callable[[], _In1[A, R]], /, *,
        max_batch: int = ..., size: Size | SizeFunction = ..., device: DeviceKind = ...,
        memory_mib: float | None = ..., timeout_ms: float | None = ..., name: str | None = ...,
    ) -> Stage[[A], R]: ...  # fmt: skip
    @overload
    def stage(
        self, declared: Callable[[], _In2[A, B, R]], /, *,
        max_batch: int = ..., size: Size | SizeFunction = ..., device: DeviceKind = ...,
        memory_mib: float | None = ..., timeout_ms: float | None = ..., name: str | None = ...,
    ) -> Stage[[A, B], R]: ...  # fmt: skip
    @overload
    def stage(
        self, declared: Callable[[], _In3[A, B, C, R]], /, *,
        max_batch: int = ..., size: Size | SizeFunction = ..., device: DeviceKind = ...,
        memory_mib: float | None = ..., timeout_ms: float | None = ..., name: str | None = ...,
    ) -> Stage[[A, B, C], R]: ...  # fmt: skip
    @overload
    def stage(
        self, declared: Callable[[], _In4[A, B, C, D, R]], /, *,
        max_batch: int = ..., size: Size | SizeFunction = ..., device: DeviceKind = ...,
        memory_mib: float | None = ..., timeout_ms: float | None = ..., name: str | None = ...,
    ) -> Stage[[A, B, C, D], R]: ...  # fmt: skip
    @overload
    def stage(
        self, declared: Callable[[], _In5[A, B, C, D, E, R]], /, *,
        max_batch: int = ..., size: Size | SizeFunction = ..., device: DeviceKind = ...,
        memory_mib: float | None = ..., timeout_ms: float | None = ..., name: str | None = ...,
    ) -> Stage[[A, B, C, D, E], R]: ...  # fmt: skip
    @overload
    def stage(
        self, declared: Callable[[], _In6[A, B, C, D, E, F, R]], /, *,
        max_batch: int = ..., size: Size | SizeFunction = ..., device: DeviceKind = ...,
        memory_mib: float | None = ..., timeout_ms: float | None = ..., name: str | None = ...,
    ) -> Stage[[A, B, C, D, E, F], R]: ...  # fmt: skip
    @overload
    def stage(
        self, declared: _In1[A, R], /, *,
        max_batch: int = ..., size: Size | SizeFunction = ..., device: DeviceKind = ...,
        memory_mib: float | None = ..., timeout_ms: float | None = ..., name: str | None = ...,
    ) -> Stage[[A], R]: ...  # fmt: skip
    @overload
    def stage(
        self, declared: _In2[A, B, R], /, *,
        max_batch: int = ..., size: Size | SizeFunction = ..., device: DeviceKind = ...,
        memory_mib: float | None = ..., timeout_ms: float | None = ..., name: str | None = ...,
    ) -> Stage[[A, B], R]: ...  # fmt: skip
    @overload
    def stage(
        self, declared: _In3[A, B, C, R], /, *,
        max_batch: int = ..., size: Size | SizeFunction = ..., device: DeviceKind = ...,
        memory_mib: float | None = ..., timeout_ms: float | None = ..., name: str | None = ...,
    ) -> Stage[[A, B, C], R]: ...  # fmt: skip
    @overload
    def stage(
        self, declared: _In4[A, B, C, D, R], /, *,
        max_batch: int = ..., size: Size | SizeFunction = ..., device: DeviceKind = ...,
        memory_mib: float | None = ..., timeout_ms: float | None = ..., name: str | None = ...,
    ) -> Stage[[A, B, C, D], R]: ...  # fmt: skip
    @overload
    def stage(
        self, declared: _In5[A, B, C, D, E, R], /, *,
        max_batch: int = ..., size: Size | SizeFunction = ..., device: DeviceKind = ...,
        memory_mib: float | None = ..., timeout_ms: float | None = ..., name: str | None = ...,
    ) -> Stage[[A, B, C, D, E], R]: ...  # fmt: skip
    @overload
    def stage(
        self, declared: _In6[A, B, C, D, E, F, R], /, *,
        max_batch: int = ..., size: Size | SizeFunction = ..., device: DeviceKind = ...,
        memory_mib: float | None = ..., timeout_ms: float | None = ..., name: str | None = ...,
    ) -> Stage[[A, B, C, D, E, F], R]: ...  # fmt: skip
    @overload
    def stage(
        self, /, *, max_batch: int = ..., size: Size | SizeFunction = ..., device: DeviceKind = ...,
        memory_mib: float | None = ..., timeout_ms: float | None = ..., name: str | None = ...,
    ) -> StageDecorator: ...  # fmt: skip
    def stage(
        self,
        declared: Callable[..., Any] | None = None,
        /,
        *,
        max_batch: int = 1,
        size: Size | SizeFunction = sizes.one,
        device: DeviceKind = "cpu",
        memory_mib: float | None = None,
        timeout_ms: float | None = None,
        name: str | None = None,
    ) -> Any:
        """Declare a stage: a class whose constructor loads and whose call takes one batch, or a function of one batch.

        Args:
            declared: the class or function; without it a decorator is returned.
            max_batch: the most items that one call takes.
            size: how the first input of an item is measured, for prediction and for weighing batches.
            device: where it runs.
            memory_mib: a hint of its resident memory, until a profile measures it.
            timeout_ms: the limit of one invocation; without one it is derived from the profile.
            name: defaults to the name of the function, or of the class in snake_case.

        Raises:
            DeclarationError: the stage cannot be served as declared; the message names the parameter and the mend.
        """

        def declare(target: Callable[..., Any]) -> Stage[..., Any]:
            if not callable(target):
                raise DeclarationError(f"{caller()}: {target!r} cannot be a stage; give a class or a function")
            stage: Stage[..., Any] = Stage(
                self.name,
                target,
                name=name,
                max_batch=max_batch,
                size=size,
                device=device,
                memory_mib=memory_mib,
                timeout_ms=timeout_ms,
            )
            known = self.stages.get(stage.name)
            if known is not None:
                raise DeclarationError(
                    f"{stage.place}: app {self.name!r} already has a stage named {stage.name!r}, declared at {known.place}; "
                    "give one of them name=..."
                )
            check_captured(target, stage.name, stage.place)
            self.stages[stage.name] = stage
            return stage

        return declare if declared is None else declare(declared)

    def flow(self, function: Callable[P, R]) -> Flow[P, R]:
        """Declare how the stages are composed; ``function`` also runs eagerly, as plain Python.

        Raises:
            DeclarationError: the app already has a flow.
        """
        if self._flow is not None:
            raise DeclarationError(f"{caller()}: app {self.name!r} already has a flow at {self._flow.place}; an app has one")
        flow = Flow(self.name, function)
        self._flow = flow
        return flow

    def samples(self, function: S) -> S:
        """Declare example inputs, for profiles, demonstrations and documents.

        Args:
            function: takes nothing and returns a list with an entry per sample: the input, or a tuple of inputs where the flow
                has several. It is called in an instance only.

        Raises:
            DeclarationError: the app already has samples, or the function needs arguments.
        """
        if self._samples is not None:
            raise DeclarationError(f"{caller()}: app {self.name!r} already has samples at {self._samples[1]}; an app has one")
        place = caller()
        example_inputs.check_function(function, self.name, place)
        self._samples = (function, place)
        return function

    def sample_values(self) -> list[tuple[object, ...]]:
        """The example inputs: per sample a value for each entry value. Runs the user's function.

        Raises:
            DeclarationError: there are none, or the function failed; the message says how to mend it.
        """
        names = self.graph.input_names
        if self._samples is None:
            raise DeclarationError(
                f"{self.place}: app {self.name!r} has no samples. Add to its file:\n{example_inputs.how_to_add(names)}"
            )
        function, place = self._samples
        return example_inputs.read(function, self.name, place, names)

    @property
    def graph(self) -> Graph:
        """The DAG of the flow, followed on first use."""
        return self._follow().graph

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Every ``choose`` of the flow, for finding keys that have no branch."""
        return self._follow().choices

    def annotation(self, source: Source) -> object:
        """The Python annotation of the value behind a source of the graph."""
        return self._follow().annotations[source]

    def value_type(self, source: Source) -> ValueType:
        """The type of the value behind a source of the graph."""
        return self._follow().types[source]

    def spec(self, source: bytes) -> AppSpec:
        """The declaration as plain data; ``source`` are the bytes of the app file.

        ``source_digest`` covers them and ``neighbours``: the modules of the file's own folder that it imports, as whoever
        imported the file has left them here.

        Raises:
            DeclarationError: the flow cannot be served as declared.
        """
        traced = self._follow()
        graph = traced.graph
        used = dict.fromkeys(node.declared for node in graph.stages)
        spec = AppSpec(
            name=self.name,
            slo=self.slo,
            graph=graph,
            stages=tuple(self.stages[name].spec for name in used),
            inputs=tuple(traced.types[Input(index)] for index in range(len(graph.input_names))),
            outputs=tuple(traced.types[output] for output in graph.outputs),
            source_digest=hashlib.sha256(source + self.neighbours).hexdigest(),
            digest="",
            reject_late=self.reject_late,
            description=self.description,
        )
        declaration = msgspec.structs.replace(spec, source_digest="")
        return msgspec.structs.replace(spec, digest=hashlib.sha256(msgspec.json.encode(declaration)).hexdigest())

    def _follow(self) -> "_TracedFlow":
        if self._traced is None:
            if self._flow is None:
                raise DeclarationError(
                    f"{self.place}: app {self.name!r} has no flow; compose its stages in a function under @app.flow"
                )
            self._traced = _follow(self, self._flow)
        return self._traced


class _TracedFlow:
    """A followed flow: its graph, and type and annotation of every source."""

    def __init__(self, trace: Trace, graph: Graph) -> None:
        self.graph = graph
        self.choices = tuple(trace.choices)
        self.annotations = trace.annotations
        self.types = trace.types


def _follow(app: App, flow: Flow[..., Any]) -> _TracedFlow:
    function, place = flow.function, flow.place
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise DeclarationError(
            f"{place}: an annotation of flow {flow.__name__!r} cannot be resolved ({error}); import it at the top of the file"
        ) from error
    trace = Trace(app.name, place)
    names: list[str] = []
    arguments: list[Any] = []
    for index, parameter in enumerate(inspect.signature(function).parameters.values()):
        subject = f"entry value {parameter.name!r} of flow {flow.__name__!r}"
        if parameter.name not in hints:
            raise DeclarationError(f"{place}: {subject} has no annotation; write {parameter.name}: ...")
        if parameter.kind not in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            raise DeclarationError(f"{place}: {subject} is *args, **kwargs or keyword-only; name each entry value")
        annotation = hints[parameter.name]
        names.append(parameter.name)
        arguments.append(trace.value(Input(index), describe(annotation, subject, place), annotation))
    if not arguments:
        raise DeclarationError(f"{place}: flow {flow.__name__!r} has no entry value; give it at least one parameter")
    if "return" not in hints:
        raise DeclarationError(f"{place}: flow {flow.__name__!r} has no annotation for its result; write -> ...")
    with trace.following():
        try:
            returned = function(*arguments)
        except UnboundLocalError as error:
            raise DeclarationError(
                f"{place}: a cycle: in flow {flow.__name__!r} a value is read before a stage has made it ({error}); "
                "a stage can only read what comes before it"
            ) from error
        except RecursionError as error:
            raise DeclarationError(
                f"{place}: a cycle: flow {flow.__name__!r} calls itself without end; do the repetition inside a stage"
            ) from error
        results = _named_results(returned, flow)
        graph = trace.finish(tuple(names), results)
    _check_result_types(results, hints["return"], flow)
    _check_custom_sizes(app, graph)
    return _TracedFlow(trace, graph)


def _named_results(returned: object, flow: Flow[..., Any]) -> dict[str, object]:
    if isinstance(returned, dict):
        if not returned or not all(isinstance(name, str) for name in returned):
            raise DeclarationError(
                f"{flow.place}: flow {flow.__name__!r} returns a dict; its keys must be str and name the outputs"
            )
        return dict(returned)
    if isinstance(returned, tuple):
        if not returned:
            raise DeclarationError(f"{flow.place}: flow {flow.__name__!r} returns an empty tuple; return what its stages made")
        names: Sequence[str] = getattr(returned, "_fields", None) or [f"output_{index}" for index in range(len(returned))]
        return dict(zip(names, returned, strict=True))
    if returned is None:
        raise DeclarationError(f"{flow.place}: flow {flow.__name__!r} returns nothing; return what its stages made")
    return {"output": returned}


def _check_result_types(results: dict[str, object], annotation: object, flow: Flow[..., Any]) -> None:
    if len(results) == 1 and "output" in results:
        wanted = [annotation]
    elif get_origin(annotation) is tuple and len(get_args(annotation)) == len(results) and ... not in get_args(annotation):
        wanted = list(get_args(annotation))
    elif isinstance(annotation, type) and hasattr(annotation, "__annotations__"):
        wanted = list(get_type_hints(annotation, include_extras=True).values())
    else:
        return
    for (name, value), declared in zip(results.items(), wanted, strict=False):
        subject = f"the result {name!r} of flow {flow.__name__!r}"
        expected = describe(declared, subject, flow.place)
        if isinstance(value, Traced) and not fits(value.type_, expected):
            raise DeclarationError(
                f"{flow.place}: {subject} is annotated {expected.annotation} and the stage returns {value.type_.annotation}; "
                "change one of the annotations"
            )


def _check_custom_sizes(app: App, graph: Graph) -> None:
    for index in range(len(graph.input_names)):
        for consumer in graph.sized_consumers(Input(index)):
            stage = app.stages[graph.stages[consumer].declared]
            if stage.spec.size == "custom":
                raise DeclarationError(
                    f"{stage.place}: stage {stage.name!r} has a size function of its own and first reads the entry value "
                    f"{graph.input_names[index]!r}, which the server must measure without running user code; "
                    "use a measure of grainwise.sizes, or put a stage before it"
                )
