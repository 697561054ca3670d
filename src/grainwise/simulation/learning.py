"""From cells of a sweep to a trained predictor, and where a planner finds the one that it asks."""

import os
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grainwise.domain.errors import ArtifactError, ConfigurationError
from grainwise.planning.problem import Problem
from grainwise.predictors.evaluator import PlanEvaluator
from grainwise.predictors.features import FEATURES, FEATURES_VERSION
from grainwise.predictors.learned import Learned
from grainwise.predictors.predictor_file import (
    KIND,
    SCHEMA,
    TARGETS,
    FeatureRange,
    Predictor,
    TrainedOn,
    check_app,
    read,
)
from grainwise.predictors.trees import Trees, fit
from grainwise.simulation.sweep import Cell, Swept, best, is_saturated

OVERRIDE = "GRAINWISE_PREDICTOR"
"""The environment variable with the path of a predictor that is used instead of the shipped one."""

SHIPPED = "default.predictor.json"
LEAST_SETTINGS = 8
"""With fewer settings nothing can be both learned and held out."""

_HELD_OUT = 5
"""Every fifth setting is left out of a first fit, which says how far the trees err; the second fit has all."""

_LEAST_CAPACITIES = 8

Matrix = NDArray[np.float64]


def train(swept: Swept) -> Predictor:
    """Train a predictor; the seed of the sweep is that of the trees too.

    Raises:
        ConfigurationError: there are too few settings.
        PlatformError: LightGBM is not installed.
    """
    settings, seed = [cells for cells in swept.cells if cells], swept.seed
    if len(settings) < LEAST_SETTINGS:
        raise ConfigurationError(
            f"{len(settings)} settings are too few to learn from; give --settings {LEAST_SETTINGS} or more"
        )
    held = [cells for at, cells in enumerate(settings) if at % _HELD_OUT == 0]
    kept = [cells for at, cells in enumerate(settings) if at % _HELD_OUT]
    errors = _errors(_fit_all(_flat(kept), seed), _flat(held))
    cells = _flat(settings)
    rows = _rows(cells)
    sources = sorted({cell.source for cell in cells} | set(swept.digests))
    counts = {source: sum(group[0].source == source for group in settings) for source in sources}
    return Predictor(
        schema=SCHEMA,
        kind=KIND,
        features_version=FEATURES_VERSION,
        is_general=swept.is_general,
        settings=len(settings),
        rows=len(cells),
        requests=swept.requests,
        seed=seed,
        versions={name: version(name) for name in ("grainwise", "lightgbm", "numpy")},
        trained_on=tuple(TrainedOn(source, counts[source], swept.digests.get(source, "")) for source in sources),
        constants=constants(settings),
        held_out={name: round(value, 5) for name, value in errors.items()},
        features=tuple(
            FeatureRange(name, float(rows[:, at].min()), float(rows[:, at].max())) for at, name in enumerate(FEATURES)
        ),
        trees={target: tuple(tuple(text.splitlines()) for text in texts) for target, texts in _fit_all(cells, seed).items()},
    )


def constants(settings: Sequence[Sequence[Cell]]) -> dict[str, str]:
    """By number of stages the granularity that was best most often, of equals the first by name; saturated ones left out."""
    wins: dict[str, dict[str, int]] = {}
    for cells in settings:
        if not is_saturated(cells):
            winner = cells[best(cells)]
            own = wins.setdefault(str(winner.stages), {})
            own[winner.pattern] = own.get(winner.pattern, 0) + 1
    return {stages: min(own, key=lambda name: (-own[name], name)) for stages, own in sorted(wins.items())}


def evaluator_for(problem: Problem) -> PlanEvaluator:
    """The learned evaluator for a planning problem: the predictor that ``GRAINWISE_PREDICTOR`` names, else the shipped one.

    Raises:
        ConfigurationError: the variable names no file that can be read.
        ArtifactError: the file is no predictor of this version, or was trained for another app.
        PlatformError: LightGBM is not installed.
    """
    found = load(os.environ.get(OVERRIDE, ""))
    check_app(found.predictor, problem.app.name, problem.model.profile_digest, found.file)
    return found


@cache
def load(path: str = "") -> Learned:
    """The predictor at ``path``, the shipped one where it is empty; each is read once.

    Raises:
        ConfigurationError: the file cannot be read.
        ArtifactError: it is no predictor of this version.
        PlatformError: LightGBM is not installed.
    """
    if path:
        try:
            return Learned(read(Path(path).read_bytes(), path), path)
        except OSError as error:
            raise ConfigurationError(
                f"{OVERRIDE} names {path}, which cannot be read: {error.strerror}; run: grainwise predictor train --out {path}"
            ) from error
    shipped = files("grainwise.predictors").joinpath(SHIPPED)
    if not shipped.is_file():
        raise ArtifactError(f"no predictor is shipped with this installation; train one and name it in {OVERRIDE}")
    return Learned(read(shipped.read_bytes(), SHIPPED), SHIPPED)


def _flat(settings: Sequence[Sequence[Cell]]) -> list[Cell]:
    return [cell for cells in settings for cell in cells]


def _rows(cells: Sequence[Cell]) -> Matrix:
    return np.array([cell.features for cell in cells], dtype=np.float64)


def _values(target: str, cells: Sequence[Cell]) -> tuple[list[Cell], Matrix]:
    """The cells in which a target is known, and its values."""
    if target == "attainment":
        return list(cells), np.array([cell.outcome.attainment - cell.predicted.attainment for cell in cells])
    if target == "capacity":
        known = [cell for cell in cells if cell.capacity_per_s is not None and cell.predicted.capacity_per_s > 0]
        return known, np.array([(cell.capacity_per_s or 0.0) / cell.predicted.capacity_per_s for cell in known])
    field = f"{target}_usd_per_hour"
    known = [cell for cell in cells if getattr(cell.predicted, field) > 0]
    return known, np.array([getattr(cell.outcome, field) / getattr(cell.predicted, field) for cell in known])


def _fit_all(cells: Sequence[Cell], seed: int) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for target in TARGETS:
        known, values = _values(target, cells)
        if target == "capacity" and len(known) < _LEAST_CAPACITIES:
            # Too few were sought to learn from: the analytic one stands as it is.
            known, values = list(cells), np.ones(len(cells))
        found[target] = fit(_rows(known), values, seed)
    return found


def _errors(texts: dict[str, tuple[str, ...]], cells: Sequence[Cell]) -> dict[str, float]:
    """Mean absolute errors of trees and of the closed form, and how often the outcome lies within the range; per target."""
    found: dict[str, float] = {}
    for target in TARGETS:
        known, values = _values(target, cells)
        if not known:
            continue
        quantiles = Trees(texts[target], target).predict(_rows(known))
        neutral = 0.0 if target == "attainment" else 1.0
        found[f"{target}_error"] = float(np.mean(np.abs(quantiles[:, 1] - values)))
        found[f"{target}_error_analytic"] = float(np.mean(np.abs(neutral - values)))
        inside = (quantiles[:, 0] <= values + 1e-9) & (values <= quantiles[:, 2] + 1e-9)
        found[f"{target}_within_range"] = float(np.mean(inside))
    return found
