"""From points on shares of a device to the coefficients of a ``DeviceModel``.

The points on the largest share tell host and device apart by what changes with the CPU share; what does not change with it
counts as the device's. Then each smaller share tells by how much the fixed part and the part of the items take longer on it.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from grainwise.predictors.latency import DeviceModel
from grainwise.predictors.least_squares import least_squares
from grainwise.profiles.artifact import Point

Column = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

Measured = tuple[Point, float]
"""A point and its time in microseconds."""


def fit_device(measured: Sequence[Measured], share_factor: Callable[[float], float]) -> DeviceModel:
    """Fit the model of a stage on a device, without its memory.

    Args:
        measured: points with a share of a device, at least one.
        share_factor: of the stage's host part, by CPU cores.
    """
    shares = sorted({point.gpu_share_fraction for point, _ in measured})
    rows = []
    for point, _ in _at(measured, shares[-1]):
        on_host = share_factor(point.cpu_cores)
        rows.append((1.0, point.items, point.size_sum, on_host, on_host * point.items, on_host * point.size_sum))
    fixed, item, size, host_fixed, host_item, host_size = least_squares(rows, [time for _, time in _at(measured, shares[-1])])
    whole = DeviceModel(host_fixed, host_item, host_size, fixed, item, size, (shares[-1],), (1.0,), (1.0,))
    by_fixed, by_item = [1.0], [1.0]
    for share in reversed(shares[:-1]):
        # A larger share never makes a stage slower: what measures otherwise is noise.
        factors = _factors(whole, _at(measured, share), share_factor, by_fixed[-1], by_item[-1])
        by_fixed.append(factors[0])
        by_item.append(factors[1])
    return msgspec.structs.replace(
        whole, shares=tuple(shares), fixed_factors=tuple(reversed(by_fixed)), item_factors=tuple(reversed(by_item))
    )


def scaled(model: DeviceModel, factor: float) -> DeviceModel:
    """The model with every part taking ``factor`` times as long."""
    return msgspec.structs.replace(
        model,
        host_intercept_us=model.host_intercept_us * factor,
        host_per_item_us=model.host_per_item_us * factor,
        host_per_size_us=model.host_per_size_us * factor,
        fixed_us=model.fixed_us * factor,
        per_item_us=model.per_item_us * factor,
        per_size_us=model.per_size_us * factor,
    )


def _at(measured: Sequence[Measured], share: float) -> list[Measured]:
    return [each for each in measured if each[0].gpu_share_fraction == share]


def _factors(
    whole: DeviceModel,
    measured: Sequence[Measured],
    share_factor: Callable[[float], float],
    least_fixed: float,
    least_item: float,
) -> tuple[float, float]:
    """Factors of the fixed part and of the items on a smaller share, each at least as on the next larger one."""
    fixed, item, rest = [], [], []
    for point, time in measured:
        on_host = share_factor(point.cpu_cores)
        host = whole.host_intercept_us + whole.host_per_item_us * point.items + whole.host_per_size_us * point.size_sum
        fixed.append(whole.fixed_us / time)
        item.append((whole.per_item_us * point.items + whole.per_size_us * point.size_sum) / time)
        rest.append(1 - host * on_host / time)
    columns = np.array([fixed, item]).T
    left = np.array(rest)
    norms = np.linalg.norm(columns, axis=0)
    if np.all(norms > 0) and np.linalg.matrix_rank(columns / norms) == 2:
        by_fixed, by_item = np.linalg.lstsq(columns / norms, left, rcond=None)[0] / norms
        if by_fixed >= least_fixed and by_item >= least_item:
            return float(by_fixed), float(by_item)
        if by_item < least_item:
            return _alone(columns[:, 0], left - least_item * columns[:, 1], least_fixed), least_item
    # The fixed part shrinks least with the share, so what one batch alone shows is given to the items, if they take any time.
    if norms[1] == 0:
        return _alone(columns[:, 0], left, least_fixed), least_item
    return least_fixed, _alone(columns[:, 1], left - least_fixed * columns[:, 0], least_item)


def _alone(column: Column, left: Column, least: float) -> float:
    """The factor of one part that explains best what is left, and at least ``least``."""
    weight = float(column @ column)
    return max(least, float(column @ left) / weight) if weight > 0 else least
