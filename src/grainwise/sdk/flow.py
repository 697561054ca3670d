"""A flow composes stages; `each` fans out over a list and `choose` takes a branch. All of it also runs as plain Python."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, get_args, get_origin, overload

from grainwise.domain.errors import DeclarationError, InputError
from grainwise.sdk.edges import plain_type
from grainwise.sdk.trace import active
from grainwise.sdk.where import caller, definition

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
K = TypeVar("K", bool, int, str)


class Flow(Generic[P, R_co]):
    """The function that composes an app's stages. Calling it runs every stage eagerly, in this process."""

    def __init__(self, app: str, function: Callable[P, R_co]) -> None:
        self.app = app
        self.function = function
        self.place = definition(function)
        self.__doc__ = function.__doc__
        self.__name__ = getattr(function, "__name__", "flow")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the flow on one request.

        Raises:
            DeclarationError: the flow is called from a flow.
        """
        if active() is not None:
            raise DeclarationError(
                f"{caller()}: a cycle: flow {self.__name__!r} is called from a flow; write the shared part as a plain function "
                "of stages, and do repetition inside a stage"
            )
        return self.function(*args, **kwargs)


def each(body: Callable[[A], R], items: list[A]) -> list[R]:
    """Run ``body`` (a stage, or a function of stages) on every element of ``items``, in their order.

    In a flow this is a fan-out, whose width is known only when the list is.

    Raises:
        DeclarationError: in a flow, ``items`` is no list, or the body cannot be one.
    """
    trace = active()
    if trace is None:
        if not isinstance(items, list):
            raise DeclarationError(f"{caller()}: each goes over a list, and this is {type(items).__name__}")
        return [body(item) for item in items]
    if not callable(body):
        raise DeclarationError(f"{caller()}: the body of each is {body!r}; give it a stage or a function of stages")
    made: Any = trace.add_each(body, items, _element)
    return made  # type: ignore[no-any-return]


@overload
def choose(key: K, branches: Mapping[K, Callable[[A], R]], a: A, /, *, otherwise: Callable[[A], R] | None = None) -> R: ...
@overload
def choose(
    key: K, branches: Mapping[K, Callable[[A, B], R]], a: A, b: B, /, *, otherwise: Callable[[A, B], R] | None = None
) -> R: ...
@overload
def choose(
    key: K, branches: Mapping[K, Callable[[A, B, C], R]], a: A, b: B, c: C, /, *,
    otherwise: Callable[[A, B, C], R] | None = None,
) -> R: ...  # fmt: skip
@overload
def choose(
    key: K, branches: Mapping[K, Callable[[A, B, C, D], R]], a: A, b: B, c: C, d: D, /, *,
    otherwise: Callable[[A, B, C, D], R] | None = None,
) -> R: ...  # fmt: skip
@overload
def choose(
    key: K, branches: Mapping[K, Callable[[A, B, C, D, E], R]], a: A, b: B, c: C, d: D, e: E, /, *,
    otherwise: Callable[[A, B, C, D, E], R] | None = None,
) -> R: ...  # fmt: skip
@overload
def choose(
    key: K, branches: Mapping[K, Callable[[A, B, C, D, E, F], R]], a: A, b: B, c: C, d: D, e: E, f: F, /, *,
    otherwise: Callable[[A, B, C, D, E, F], R] | None = None,
) -> R: ...  # fmt: skip
def choose(key: Any, branches: Mapping[Any, Any], /, *arguments: Any, otherwise: Any = None) -> Any:
    """Run the branch whose key equals ``key``, or ``otherwise`` when none does, on ``arguments``.

    In a flow every branch becomes part of the DAG and only the chosen one runs.

    Raises:
        DeclarationError: in a flow, the key or a branch cannot be one.
        InputError: run eagerly, no branch has this key and there is no ``otherwise``.
    """
    trace = active()
    if trace is not None:
        for body in (*branches.values(), *(() if otherwise is None else (otherwise,))):
            if not callable(body):
                raise DeclarationError(f"{caller()}: a branch of choose is {body!r}; give it a stage or a function of stages")
        return trace.add_choose(key, branches, otherwise, arguments)
    for wanted, branch in branches.items():
        if wanted == key and isinstance(wanted, bool) == isinstance(key, bool):
            return branch(*arguments)
    if otherwise is None:
        raise InputError(no_branch(key, tuple(branches)))
    return otherwise(*arguments)


def no_branch(key: object, keys: tuple[bool | int | str, ...]) -> str:
    """What to say when a key has no branch."""
    return f"choose has no branch for the key {key!r}; there are branches for {', '.join(map(repr, keys))}"


def _element(annotation: object) -> object:
    plain = plain_type(annotation)
    return get_args(plain)[0] if get_origin(plain) is list else object
