"""What may cross an edge, as types and as references.

The controller routes ``Payload``: handles with sizes, never bytes.
"""

from typing import Literal

from msgspec import Struct

ValueKind = Literal["tensor", "bytes", "text", "integer", "real", "boolean", "list", "mapping", "record"]


class ValueType(Struct, frozen=True, omit_defaults=True):
    """The declared type of a value on an edge.

    ``dtype`` is a NumPy name (``uint8``) for tensors and ``None`` where the annotation leaves it open. ``shape`` holds
    ``None`` for a free dimension and is ``None`` when the rank is free. ``element`` is the item type of a list or the value
    type of a mapping, ``fields`` the fields of a record. ``annotation`` is the Python annotation as the user wrote it.
    """

    kind: ValueKind
    annotation: str
    dtype: str | None = None
    shape: tuple[int | None, ...] | None = None
    element: "ValueType | None" = None
    fields: "tuple[FieldType, ...]" = ()


class FieldType(Struct, frozen=True, omit_defaults=True):
    """One field of a record; a field with a default may be absent."""

    name: str
    type: ValueType
    is_required: bool = True


class Ref(Struct, frozen=True, array_like=True, gc=False):
    """One stored value: a handle of the store, its length in bytes, and its size as each sized consumer measures it.

    ``sizes`` follows ``Graph.sized_consumers(source)``; a size is a finite number >= 0.
    """

    handle: int
    nbytes: int
    sizes: tuple[float, ...] = ()


class Payload(Struct, frozen=True, array_like=True, gc=False):
    """The value of one source for one item.

    ``one``: a single reference. ``many``: a list that a fan-out takes apart (or a join put together), a reference each.
    ``skipped``: the token of an untaken branch. ``key`` carries the value of a source that a ``choose`` reads.
    """

    refs: tuple[Ref, ...] = ()
    shape: Literal["one", "many", "skipped"] = "one"
    key: bool | int | str | None = None


SKIPPED = Payload((), "skipped")
