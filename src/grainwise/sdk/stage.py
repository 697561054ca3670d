"""A declared stage: what its parameters and results are, and how it runs eagerly on one item."""

import inspect
import re
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from grainwise.domain.app import DeviceKind, StageSpec
from grainwise.domain.errors import DeclarationError, GrainwiseError
from grainwise.sdk.edges import describe, type_name
from grainwise.sdk.sizes import Size, can_measure
from grainwise.sdk.trace import Traced, active
from grainwise.sdk.where import caller, definition

T = TypeVar("T")
P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

Batch: TypeAlias = list[T]
"""What a stage takes and returns: one entry per item, in the same order."""

SizeFunction = Callable[[Any], float]
"""A user's own measure of the first input of one item."""


class Failed:
    """The result of one item for which the stage found no answer: that request fails with ``reason``, its neighbours do not."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __repr__(self) -> str:
        return f"Failed({self.reason!r})"


class StageFailedError(GrainwiseError):
    """A stage returned ``Failed`` for an item while the flow ran eagerly."""


class Stage(Generic[P, R_co]):
    """One stage of an app, made by ``App.stage``. In a flow it takes values; elsewhere a call runs it on one item."""

    def __init__(
        self,
        app: str,
        declared: Callable[..., Any],
        *,
        name: str | None,
        max_batch: int,
        size: Size | SizeFunction,
        device: DeviceKind,
        memory_mib: float | None,
        timeout_ms: float | None,
    ) -> None:
        self.app = app
        self.declared = declared
        self.is_class = isinstance(declared, type)
        self.place = definition(declared) if not self.is_class else caller()
        self.name = _checked_name(name if name is not None else _default_name(declared), self.place)
        self.size = size
        _check_options(self.name, self.place, max_batch, device, memory_mib, timeout_ms, size)
        called: Callable[..., Any] = declared
        if isinstance(declared, type):
            _check_constructor(declared, self.name, self.place)
            called = declared.__call__
        self.parameters, self.input_annotations, self.output_annotation = _signature(
            called, self.name, self.place, is_method=self.is_class
        )
        inputs = tuple(
            describe(annotation, f"parameter {parameter!r} of stage {self.name!r}", self.place)
            for parameter, annotation in zip(self.parameters, self.input_annotations, strict=True)
        )
        output = describe(self.output_annotation, f"the result of stage {self.name!r}", self.place)
        if isinstance(size, Size) and not can_measure(size.name, inputs[0]):
            raise DeclarationError(
                f"{self.place}: stage {self.name!r} has size={size!r}, which cannot measure {inputs[0].annotation}; "
                "use sizes.nbytes, sizes.length, sizes.one or a function of your own"
            )
        self.spec = StageSpec(
            name=self.name,
            inputs=inputs,
            output=output,
            device=device,
            max_batch=max_batch,
            size=size.name if isinstance(size, Size) else "custom",
            memory_mib=memory_mib,
            timeout_ms=timeout_ms,
            is_class=self.is_class,
        )
        self._eager: Callable[..., Any] | None = None if self.is_class else declared

    def __repr__(self) -> str:
        return f"<stage {self.name!r} of app {self.app!r}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """In a flow: put the stage into the DAG. Elsewhere: run it on one item, constructing it on the first call.

        Raises:
            DeclarationError: in a flow, the arguments cannot be an edge.
            StageFailedError: the stage returned ``Failed``, or not one result for one item.
        """
        if kwargs:
            raise DeclarationError(f"{caller()}: stage {self.name!r} takes its values by position, not by name")
        trace = active()
        if trace is not None:
            if trace.app != self.app:
                raise DeclarationError(
                    f"{caller()}: unknown stage: {self.name!r} belongs to app {self.app!r} and is used in a flow of app "
                    f"{trace.app!r}; declare it there with {trace.app}.stage(...)"
                )
            subjects = tuple(f"parameter {parameter!r}" for parameter in self.parameters)
            wanted = tuple(zip(self.spec.inputs, self.input_annotations, strict=True))
            traced: Any = trace.add_stage(self.name, subjects, wanted, args, (self.spec.output, self.output_annotation))
            return traced  # type: ignore[no-any-return]
        if any(isinstance(argument, Traced) for argument in args):
            raise DeclarationError(f"{caller()}: stage {self.name!r} is given a value of a flow outside that flow")
        if self._eager is None:
            self._eager = self.declared()
        results = self._eager(*([argument] for argument in args))
        if not isinstance(results, list | tuple) or len(results) != 1:
            raise StageFailedError(wrong_results(self.name, results, 1))
        result: Any = results[0]
        if isinstance(result, Failed):
            raise StageFailedError(f"stage {self.name!r} failed: {result.reason}")
        return result  # type: ignore[no-any-return]

    def construct(self) -> Callable[..., Any]:
        """A fresh callable that takes a batch per parameter: the function itself, or a new object of the class."""
        return self.declared() if self.is_class else self.declared


def wrong_results(stage: str, results: object, items: int) -> str:
    """What to say when a stage did not return one result per item."""
    if isinstance(results, list | tuple):
        return f"stage {stage!r} returned {len(results)} results for {items} items; it must return one per item, in order"
    return f"stage {stage!r} returned {type(results).__name__}, not a list with one result per item"


def _default_name(declared: Callable[..., Any]) -> str:
    name = getattr(declared, "__name__", type(declared).__name__)
    if isinstance(declared, type):
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    return name


def _checked_name(name: str, place: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", name):
        raise DeclarationError(
            f"{place}: {name!r} cannot be the name of a stage; give it name=... of letters, digits, '_' and '-', at most 63"
        )
    return name


def _check_options(
    name: str,
    place: str,
    max_batch: int,
    device: str,
    memory_mib: float | None,
    timeout_ms: float | None,
    size: object,
) -> None:
    def refuse(option: str, value: object, wanted: str) -> DeclarationError:
        return DeclarationError(f"{place}: stage {name!r} has {option}={value!r}; it must be {wanted}")

    if type(max_batch) is not int or max_batch < 1:
        raise refuse("max_batch", max_batch, "a whole number >= 1")
    if device not in ("cpu", "gpu"):
        raise refuse("device", device, "'cpu' or 'gpu'")
    if memory_mib is not None and not memory_mib > 0:
        raise refuse("memory_mib", memory_mib, "greater than 0")
    if timeout_ms is not None and not timeout_ms > 0:
        raise refuse("timeout_ms", timeout_ms, "greater than 0")
    if not callable(size):
        raise refuse("size", size, "a measure of grainwise.sizes or a function of one value")


def _check_constructor(declared: type, name: str, place: str) -> None:
    for parameter in inspect.signature(declared).parameters.values():
        required = parameter.default is inspect.Parameter.empty
        if required and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise DeclarationError(
                f"{place}: the constructor of stage {name!r} needs {parameter.name!r}; an instance constructs the class "
                "without arguments: give the parameter a default, or read it from the environment"
            )
    if "__call__" not in dir(declared):
        raise DeclarationError(
            f"{place}: the class of stage {name!r} has no __call__; write one that takes and returns Batches"
        )


def _signature(
    called: Callable[..., Any], name: str, place: str, *, is_method: bool
) -> tuple[tuple[str, ...], tuple[object, ...], object]:
    """Names and item annotations of the parameters, and the item annotation of the result."""
    if inspect.iscoroutinefunction(called) or inspect.isgeneratorfunction(called):
        raise DeclarationError(
            f"{place}: stage {name!r} is a coroutine or a generator; write a plain function that returns a list"
        )
    try:
        hints = get_type_hints(called, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise DeclarationError(
            f"{place}: an annotation of stage {name!r} cannot be resolved ({error}); import the name at the top of the file"
        ) from error
    parameters = list(inspect.signature(called).parameters.values())[1 if is_method else 0 :]
    taken: list[tuple[str, object]] = []
    for parameter in parameters:
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            raise DeclarationError(f"{place}: stage {name!r} takes *args, **kwargs or a keyword-only value; name each batch")
        if parameter.name not in hints:
            raise DeclarationError(
                f"{place}: parameter {parameter.name!r} of stage {name!r} has no annotation; write {parameter.name}: Batch[...]"
            )
        taken.append((parameter.name, _item_of(hints[parameter.name], f"parameter {parameter.name!r}", name, place)))
    if not 1 <= len(taken) <= 6:
        raise DeclarationError(f"{place}: stage {name!r} takes {len(taken)} batches; a stage takes 1 to 6")
    if "return" not in hints:
        raise DeclarationError(f"{place}: stage {name!r} has no annotation for its result; write -> Batch[...]")
    result = _without_failed(_item_of(hints["return"], "the result", name, place))
    return tuple(name for name, _ in taken), tuple(annotation for _, annotation in taken), result


def _item_of(annotation: object, subject: str, name: str, place: str) -> object:
    if get_origin(annotation) is not list or len(get_args(annotation)) != 1:
        raise DeclarationError(
            f"{place}: {subject} of stage {name!r} is annotated {type_name(annotation)}; a stage takes and returns Batches: "
            f"write Batch[{type_name(annotation)}] and go through its items"
        )
    return get_args(annotation)[0]


def _without_failed(annotation: object) -> object:
    options = get_args(annotation)
    if Failed not in options:
        return annotation
    kept = tuple(option for option in options if option is not Failed)
    return Union[kept]  # noqa: UP007
