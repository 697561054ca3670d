"""What surrounds a call of a resident stage: the size of its input, the check of its result, the key that a choice reads."""

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct

from grainwise.domain.errors import InputError
from grainwise.domain.extent import leaves
from grainwise.domain.graph import Source
from grainwise.sdk import sizes
from grainwise.sdk.app import App
from grainwise.sdk.codec import Codec
from grainwise.sdk.flow import no_branch
from grainwise.sdk.stage import Stage

Key = bool | int | str


class Keys(Struct, frozen=True):
    """The keys that the choices on one source have branches for: one tuple per choice that has no default branch."""

    required: tuple[tuple[Key, ...], ...]

    def checked(self, key: Key) -> Key:
        """``key``, if every choice has a branch for it.

        Raises:
            InputError: one has none.
        """
        for keys in self.required:
            if key not in keys:
                raise InputError(no_branch(key, keys))
        return key


def key_rules(app: App) -> dict[Source, Keys]:
    """For each source that a ``choose`` of the app reads, the keys that have branches."""
    required: dict[Source, list[tuple[Key, ...]]] = {}
    for choice in app.choices:
        for leaf in leaves(app.graph, choice.on):
            found = required.setdefault(leaf, [])
            if not choice.has_default:
                found.append(choice.keys)
    return {source: Keys(tuple(found)) for source, found in required.items()}


def as_key(value: object) -> Key:
    """A value as the plain Python key that guards compare."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int | str):
        return value
    raise InputError(f"the key of choose is a {type(value).__name__}; it must be a bool, an int or a str")


def measured(stage: Stage[..., Any], is_element_of_list: bool) -> Callable[[Any], float]:
    """The measure of a stage's first input; with ``is_element_of_list``, of one element of the list that it reads.

    The measure raises ``InputError`` where the user's function fails or returns no size.
    """
    size, name = stage.size, f"stage {stage.name!r}"
    if isinstance(size, sizes.Size):
        return size

    def measure(value: Any) -> float:
        try:
            found = size([value] if is_element_of_list else value)
        except Exception as error:
            raise InputError(f"the size function of {name} failed: {type(error).__name__}: {error}") from error
        return sizes.checked(found, name)

    return measure


def acceptor(stage: Stage[..., Any], keys: Keys | None) -> Callable[[Any], Any]:
    """How a result of ``stage`` is taken over: its outermost kind is checked, arrays become read-only, keys plain.

    Elements and fields are checked by the codec where the value leaves the instance, so that fusing stays cheap.
    """
    codec = Codec(stage.spec.output, stage.output_annotation, f"result of stage {stage.name!r}")
    admit = codec.admit
    if keys is not None:

        def accept_key(value: Any) -> Any:
            admit(value)
            return keys.checked(as_key(value))

        return accept_key
    if stage.spec.output.kind == "tensor":

        def accept_array(value: Any) -> Any:
            admit(value)
            view = value.view()
            view.setflags(write=False)
            return view

        return accept_array

    def accept(value: Any) -> Any:
        admit(value)
        return value

    return accept
