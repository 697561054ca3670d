"""Output arrays that are born where they travel: in an instance, in its shared memory, else on the heap."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Allocator = Callable[[int], memoryview | None]
"""Room for so many bytes in shared memory, or None when there is none now."""

_allocate: Allocator | None = None


def set_allocator(allocator: Allocator | None) -> None:
    """Let ``empty`` allocate through ``allocator``; None returns to the heap. Called by a runtime, not by apps."""
    global _allocate
    _allocate = allocator


def empty(shape: int | Sequence[int], dtype: DTypeLike = np.uint8) -> NDArray[Any]:
    """An uninitialised array of ``shape``; a stage that fills and returns it hands it on without a copy.

    Once returned it belongs to the runtime, and whoever reads it next reads this memory: do not write to it again, ask for
    another one per call.

    Outside an instance, or when shared memory has no room now, this is ``np.empty``.
    """
    if _allocate is None:
        return np.empty(shape, dtype)
    wanted = np.dtype(dtype)
    dimensions = (shape,) if isinstance(shape, int) else tuple(shape)
    nbytes = wanted.itemsize
    for dimension in dimensions:
        nbytes *= dimension
    if nbytes <= 0 or wanted.hasobject:
        return np.empty(dimensions, wanted)
    region = _allocate(nbytes)
    if region is None:
        return np.empty(dimensions, wanted)
    return np.ndarray(dimensions, wanted, buffer=region)


def empty_like(array: NDArray[Any]) -> NDArray[Any]:
    """``empty`` with the shape and dtype of ``array``."""
    return empty(array.shape, array.dtype)
