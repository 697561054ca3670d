"""How large requests are, relative to the mean request that the app's profile was measured with (1.0).

A size below ``SMALLEST`` is raised to it: 0 means "not given".
"""

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta, Struct

from grainwise.workloads.integers import SplitMix64, Weights
from grainwise.workloads.quantiles import lognormal
from grainwise.workloads.ranges import Factor, Spread

SMALLEST = 1e-6
"""The least relative size that a request is given."""


class ConstantSize(Struct, frozen=True, tag_field="kind", tag="constant", forbid_unknown_fields=True):
    """Every request of one size."""

    mean: Factor = 1.0


class LognormalSize(Struct, frozen=True, tag_field="kind", tag="lognormal", forbid_unknown_fields=True):
    """Lognormal by mean and coefficient of variation: many small requests, few large ones."""

    cv: Spread
    mean: Factor = 1.0


class EmpiricalSize(Struct, frozen=True, tag_field="kind", tag="empirical", forbid_unknown_fields=True):
    """One of these values, each as likely, or by ``weights``.

    Values are in any unit: they are divided by their own (weighted) mean and multiplied by ``mean``; with ``relative: true``
    they are taken as they are.
    """

    values: Annotated[tuple[Factor, ...], Meta(min_length=1)]
    weights: tuple[Annotated[float, Meta(ge=0, le=1e9)], ...] = ()
    mean: Factor = 1.0
    relative: bool = False

    def __post_init__(self) -> None:
        if self.weights and (len(self.weights) != len(self.values) or not any(self.weights)):
            raise ValueError(f"weights must be as many as the {len(self.values)} values, with one above 0")


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of request in a mixture. Its sizes are relative to the profiled mean, not to the mixture's."""

    weight: Factor
    sizes: ConstantSize | LognormalSize | EmpiricalSize


class MixtureSize(Struct, frozen=True, tag_field="kind", tag="mixture", forbid_unknown_fields=True):
    """Requests of several kinds, chosen by weight; e.g. 90 % thumbnails of mean 0.3 and 10 % scans of mean 7.3.

    With ``mean`` all sizes are scaled so that this is the mixture's mean; without it the parts' means stand.
    """

    parts: Annotated[tuple[Part, ...], Meta(min_length=1)]
    mean: Factor | None = None


class TraceSize(Struct, frozen=True, tag_field="kind", tag="trace", forbid_unknown_fields=True):
    """The size that was recorded with the arrival, divided by the mean of the whole trace and multiplied by ``mean``."""

    mean: Factor = 1.0


Sizes = ConstantSize | LognormalSize | EmpiricalSize | MixtureSize | TraceSize
DrawSize = Callable[[float], float]
"""From the recorded size, relative to its trace's mean (0: none), to the relative size of the request."""


def mean_size(sizes: Sizes) -> float:
    """The mean relative size; for a trace over the whole of it."""
    match sizes:
        case EmpiricalSize(relative=True):
            return _own_mean(sizes)
        case MixtureSize(mean=None):
            return _mixture_mean(sizes)
        case MixtureSize():
            return sizes.mean or 1.0
    return sizes.mean


def size_drawer(sizes: Sizes | None, seed: int) -> DrawSize:
    """Draws the sizes of one stream.

    ``None`` gives 0.0: the simulator then takes a request from the profile's own samples.
    """
    if sizes is None:
        return lambda recorded: 0.0
    if isinstance(sizes, TraceSize):
        mean = sizes.mean
        return lambda recorded: max(SMALLEST, recorded * mean)
    if isinstance(sizes, MixtureSize):
        return _mixture(sizes, seed)
    draw = _simple(sizes, SplitMix64(seed))
    return lambda recorded: draw()


def _simple(sizes: ConstantSize | LognormalSize | EmpiricalSize, rng: SplitMix64) -> Callable[[], float]:
    match sizes:
        case ConstantSize():
            return lambda: max(SMALLEST, sizes.mean)
        case LognormalSize():
            table, mean = lognormal(sizes.cv), sizes.mean
            return lambda: max(SMALLEST, mean * table.draw(rng))
        case EmpiricalSize():
            scale = 1.0 if sizes.relative else sizes.mean / _own_mean(sizes)
            values = [max(SMALLEST, value * scale) for value in sizes.values]
            if not sizes.weights:
                return lambda: values[rng.below(len(values))]
            weights = Weights(sizes.weights)
            return lambda: values[weights.choose(rng)]


def _mixture(sizes: MixtureSize, seed: int) -> DrawSize:
    rng = SplitMix64(seed)
    weights = Weights([part.weight for part in sizes.parts])
    draws = [_simple(part.sizes, rng) for part in sizes.parts]
    scale = sizes.mean / _mixture_mean(sizes) if sizes.mean is not None else 1.0
    return lambda recorded: max(SMALLEST, scale * draws[weights.choose(rng)]())


def _own_mean(sizes: EmpiricalSize) -> float:
    weights = sizes.weights or (1.0,) * len(sizes.values)
    return sum(value * weight for value, weight in zip(sizes.values, weights, strict=True)) / sum(weights)


def _mixture_mean(sizes: MixtureSize) -> float:
    return sum(part.weight * mean_size(part.sizes) for part in sizes.parts) / sum(part.weight for part in sizes.parts)
