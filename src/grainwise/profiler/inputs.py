"""The inputs that a profile is made with: the app's own samples, or values that were given, as payloads in the store."""

import io
from collections.abc import Sequence
from typing import TypeVar

import msgspec
import numpy as np

from grainwise.domain.errors import ConfigurationError, DeclarationError, InputError
from grainwise.domain.values import Payload, ValueType
from grainwise.gateway.entry import Entry, Intake
from grainwise.runtimes.local.runtime import LocalRuntime
from grainwise.sdk.samples import how_to_add

T = TypeVar("T")

MOST_SAMPLES = 32
"""More inputs than this are not used: they would take the budget away from the points."""


async def take_inputs(runtime: LocalRuntime, given: Sequence[tuple[object, ...]] | None) -> list[tuple[Payload, ...]]:
    """Per sample a payload for each entry value; whoever takes them owns their handles.

    Args:
        runtime: where the app is imported.
        given: a tuple of values per sample, or None for the app's own samples. ``bytes`` for a value that is not ``bytes``
            are the content of a file: UTF-8 text, ``.npy`` for an array, else JSON.

    Raises:
        ConfigurationError: nothing is given and the app has no samples; the message shows the lines to add.
        DeclarationError: the samples function failed.
        InputError: a given value does not fit the app.
    """
    spec = runtime.spec
    if given is None:
        try:
            return _some(await runtime.samples())
        except DeclarationError as error:
            if "has no samples" not in str(error):
                raise
            raise ConfigurationError(
                f"app {spec.name!r} has no samples to profile with. Add to its file:\n{how_to_add(spec.graph.input_names)}\n"
                "or give files of inputs: grainwise profile APP --input FILE"
            ) from error
    if not given:
        raise ConfigurationError(f"no input is given for app {spec.name!r}; give at least one, or none for its own samples")
    entry = Entry(spec)
    return [_stored(runtime, entry, sample, index) for index, sample in enumerate(_some(list(given)))]


def _some(samples: list[T]) -> list[T]:
    """At most ``MOST_SAMPLES``, evenly spread."""
    if len(samples) <= MOST_SAMPLES:
        return samples
    return [samples[index * len(samples) // MOST_SAMPLES] for index in range(MOST_SAMPLES)]


def _stored(runtime: LocalRuntime, entry: Entry, sample: tuple[object, ...], index: int) -> tuple[Payload, ...]:
    names = runtime.spec.graph.input_names
    if len(sample) != len(names):
        raise InputError(f"input {index} has {len(sample)} values; app {runtime.spec.name!r} takes {', '.join(names)}")
    intake = Intake(entry, runtime.store)
    try:
        for slot, value in zip(entry.slots, sample, strict=True):
            intake.put_value(slot, _value(value, slot.value_type, f"input {index} ({slot.name})"))
        return intake.take()
    finally:
        intake.undo()


def _value(value: object, value_type: ValueType, subject: str) -> object:
    """A given value, or what the content of a file stands for."""
    if not isinstance(value, bytes) or value_type.kind == "bytes":
        return value
    try:
        if value_type.kind == "text":
            return value.decode()
        if value_type.kind == "tensor":
            return np.load(io.BytesIO(value), allow_pickle=False)
        return msgspec.json.decode(value)
    except (ValueError, EOFError, msgspec.MsgspecError) as error:
        form = {"text": "UTF-8 text", "tensor": "an array in .npy form"}.get(value_type.kind, "JSON")
        raise InputError(f"{subject} is {value_type.annotation}; its file must be {form}: {error}") from error
