"""Gradient-boosted trees that predict quantiles: a booster for each of three levels, stored as LightGBM's own text.

After Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree" (NeurIPS 2017), with the pinball loss of
quantile regression (Koenker and Bassett, 1978). LightGBM is an extra and imported when it is needed.
"""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainwise.domain.errors import ArtifactError, PlatformError

LEVELS = (0.05, 0.5, 0.95)
"""The quantiles: the middle one is the value, the outer ones hold nine in ten."""

Matrix = NDArray[np.float64]

_ROUNDS = 60
_SETTINGS: dict[str, object] = {
    "objective": "quantile",
    "learning_rate": 0.1,
    "num_leaves": 8,
    "min_data_in_leaf": 12,
    "lambda_l2": 1.0,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


def load_lightgbm() -> Any:
    """The library.

    Raises:
        PlatformError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module("lightgbm")
    except ImportError as error:
        raise PlatformError(
            "learned predictors need LightGBM, which is not installed: pip install 'grainwise[learned]', "
            "or choose the analytic or the rollout evaluator"
        ) from error


def fit(rows: Matrix, values: Matrix, seed: int, rounds: int = _ROUNDS) -> tuple[str, ...]:
    """Boosters for ``LEVELS``, as text.

    Args:
        rows: features, one row each.
        values: what is to be predicted, as long as ``rows``.
        seed: of the parts of rows and features that each tree sees.
        rounds: trees of each booster.

    Raises:
        PlatformError: LightGBM is not installed.
    """
    lightgbm = load_lightgbm()
    found = []
    for level in LEVELS:
        settings = {**_SETTINGS, "alpha": level, "seed": seed % (1 << 31)}
        data = lightgbm.Dataset(rows, values, params={"verbosity": -1, "min_data_in_bin": 1})
        found.append(str(lightgbm.train(settings, data, num_boost_round=rounds).model_to_string()))
    return tuple(found)


class Trees:
    """Boosters of ``LEVELS``, ready to predict.

    Args:
        texts: as ``fit`` made them.
        name: what they predict, for errors.

    Raises:
        PlatformError: LightGBM is not installed.
        ArtifactError: a text is no booster.
    """

    def __init__(self, texts: Sequence[str], name: str) -> None:
        lightgbm = load_lightgbm()
        if len(texts) != len(LEVELS):
            raise ArtifactError(
                f"Field `trees.{name}` of the predictor has {len(texts)} boosters, not {len(LEVELS)}. "
                "Run `grainwise predictor train` to make it anew."
            )
        try:
            self._boosters = [lightgbm.Booster(model_str=text) for text in texts]
        except (lightgbm.basic.LightGBMError, ValueError) as error:
            raise ArtifactError(
                f"Field `trees.{name}` of the predictor is no booster: {error}. "
                "Run `grainwise predictor train` to make it anew."
            ) from error

    def predict(self, rows: Matrix) -> Matrix:
        """For each row the quantiles at ``LEVELS``, in increasing order: boosters are trained apart and may cross."""
        columns = [booster.predict(rows, num_threads=1) for booster in self._boosters]
        return np.sort(np.column_stack(columns).astype(np.float64), axis=1)
