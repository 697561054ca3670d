"""What the door knows of an app: its entry values with their measures, and how a value becomes a payload."""

from collections.abc import Sequence

from msgspec import Struct

from grainwise.domain.app import AppSpec
from grainwise.domain.extent import exploded_sources, keyed_sources
from grainwise.domain.graph import Input
from grainwise.domain.values import Payload, Ref, ValueType
from grainwise.gateway.errors import FieldError
from grainwise.runtimes.payloads import PayloadStore, Stored
from grainwise.sdk.sizes import from_metadata, measure


class Slot(Struct, frozen=True):
    """One entry value. ``is_exploded``: a list that a fan-out takes apart; ``is_keyed``: a ``choose`` reads it."""

    index: int
    name: str
    value_type: ValueType
    measures: tuple[str, ...]
    is_exploded: bool
    is_keyed: bool

    @property
    def is_counted(self) -> bool:
        """Whether the limit of elements holds: everything but a list of numbers that stays whole costs per element."""
        element = self.value_type.element
        is_numeric = element is not None and element.kind in ("integer", "real", "boolean")
        return self.value_type.kind == "list" and (self.is_exploded or not is_numeric)


class Result(Struct, frozen=True):
    """One named result."""

    index: int
    name: str
    value_type: ValueType


class Entry:
    """One app as the door sees it; derived once from its declaration."""

    __slots__ = ("result_by_name", "results", "slot_by_name", "slots", "spec")

    def __init__(self, spec: AppSpec) -> None:
        graph = spec.graph
        exploded = exploded_sources(graph)
        keyed = keyed_sources(graph)
        self.spec = spec
        self.slots = tuple(
            Slot(
                index,
                name,
                spec.inputs[index],
                tuple(spec.spec(stage).size for stage in graph.sized_consumers(Input(index))),
                Input(index) in exploded,
                Input(index) in keyed,
            )
            for index, name in enumerate(graph.input_names)
        )
        self.slot_by_name = {slot.name: slot for slot in self.slots}
        self.results = tuple(Result(index, name, spec.outputs[index]) for index, name in enumerate(graph.output_names))
        self.result_by_name = {result.name: result for result in self.results}

    def slot(self, name: str, field: str) -> Slot:
        """The entry value of that name.

        Raises:
            FieldError: there is none; the message lists those that there are.
        """
        slot = self.slot_by_name.get(name)
        if slot is None:
            raise FieldError(field, f"app {self.spec.name} has no input {name!r}; it has {', '.join(self.slot_by_name)}")
        return slot


class Intake:
    """The payloads of one request while they are being stored; gives everything back unless ``take`` is reached."""

    __slots__ = ("_entry", "_payloads", "_store", "handles")

    def __init__(self, entry: Entry, store: PayloadStore) -> None:
        self._entry = entry
        self._store = store
        self._payloads: list[Payload | None] = [None] * len(entry.slots)
        self.handles: list[int] = []

    def has(self, slot: Slot) -> bool:
        """Whether this entry value has been filled."""
        return self._payloads[slot.index] is not None

    def put_tensor(self, slot: Slot, stored: Stored, dtype: str, shape: Sequence[int]) -> None:
        """Fill ``slot`` with an array that is already in the store."""
        self.handles.append(stored.handle)
        self._payloads[slot.index] = Payload((_ref(slot, stored, dtype, tuple(shape)),))

    def put_raw(self, slot: Slot, stored: Stored) -> None:
        """Fill ``slot`` with bytes that are already in the store."""
        self.handles.append(stored.handle)
        self._payloads[slot.index] = Payload((_ref(slot, stored, None, None),))

    def put_raw_list(self, slot: Slot, elements: Sequence[Stored]) -> None:
        """Fill an exploded list with elements that are already in the store."""
        self.handles.extend(stored.handle for stored in elements)
        self._payloads[slot.index] = Payload(tuple(_ref(slot, stored, None, None) for stored in elements), "many")

    def put_value(self, slot: Slot, value: object) -> None:
        """Store a Python value and fill ``slot`` with it.

        Raises:
            InputError: it does not fit the declared type.
            ArenaFullError: there is no room now.
        """
        value_type = slot.value_type
        if slot.is_exploded and isinstance(value, list):
            element = value_type.element
            refs: list[Ref] = []
            for item in value:
                stored = self._store.put(item, element if element is not None else value_type)
                self.handles.append(stored.handle)
                refs.append(_measured(slot, stored, item))
            self._payloads[slot.index] = Payload(tuple(refs), "many")
            return
        stored = self._store.put(value, value_type)
        self.handles.append(stored.handle)
        key = value if slot.is_keyed and isinstance(value, bool | int | str) else None
        self._payloads[slot.index] = Payload((_measured(slot, stored, value),), "one", key)

    def take(self) -> tuple[Payload, ...]:
        """The payloads in the order of the app's entry values; whoever takes them owns their handles.

        Raises:
            FieldError: an entry value is missing.
        """
        payloads: list[Payload] = []
        for slot, payload in zip(self._entry.slots, self._payloads, strict=True):
            if payload is None:
                raise FieldError(slot.name, f"app {self._entry.spec.name} needs this input and it was not sent")
            payloads.append(payload)
        self.handles = []
        return tuple(payloads)

    def undo(self) -> None:
        """Release what has been stored and not been taken."""
        if self.handles:
            handles, self.handles = tuple(self.handles), []
            self._store.release(handles)


def _ref(slot: Slot, stored: Stored, dtype: str | None, shape: tuple[int, ...] | None) -> Ref:
    """The reference of a tensor or of bytes, measured without looking at them."""
    sizes = tuple(from_metadata(name, dtype, shape, stored.nbytes) for name in slot.measures)
    return Ref(stored.handle, stored.nbytes, sizes)


def _measured(slot: Slot, stored: Stored, value: object) -> Ref:
    """The reference of a decoded value."""
    return Ref(stored.handle, stored.nbytes, tuple(measure(name, value) for name in slot.measures))
