"""Non-negative least squares on relative error over a few columns, with as few of them as say the same."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

Table = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def least_squares(rows: Sequence[Sequence[float]], times: Sequence[float]) -> tuple[float, ...]:
    """Non-negative coefficients of the columns of ``rows`` that minimise the squared relative error of ``times``.

    The first column must be the constant one. With so few columns the active set is found by trying every subset; fewer columns
    and earlier ones win ties, so that a few points do not give a size a weight that it has not shown.
    """
    table = np.array(rows)
    measured = np.array(times)
    width = table.shape[1]
    scaled = table / measured[:, None]
    best: tuple[float, ...] = (float(np.mean(measured)), *(0.0,) * (width - 1))
    best_error = float(np.sum((scaled @ np.array(best) - 1) ** 2))
    distinct = _distinct(scaled)
    for count in range(1, len(distinct) + 1):
        for columns in combinations(distinct, count):
            part = scaled[:, columns]
            norms = np.linalg.norm(part, axis=0)
            found, _, rank, _ = np.linalg.lstsq(part / norms, np.ones(len(measured)), rcond=None)
            solved = found / norms
            if rank < count or np.any(solved < 0):
                continue
            error = float(np.sum((part @ solved - 1) ** 2))
            if error < best_error * 0.98 - 1e-12:
                values = [0.0] * width
                for column, value in zip(columns, solved, strict=True):
                    values[column] = float(value)
                best, best_error = tuple(values), error
    return best


def _distinct(table: Table) -> list[int]:
    """The columns that are neither zero nor a multiple of an earlier one: those say nothing more, and double the subsets."""
    norms = np.linalg.norm(table, axis=0)
    unit = table / np.where(norms > 0, norms, 1.0)
    found: list[int] = []
    for at in range(table.shape[1]):
        if norms[at] > 0 and not any(np.max(np.abs(unit[:, at] - unit[:, other])) < 1e-14 for other in found):
            found.append(at)
    return found
