"""The learned model as a ``PlanEvaluator``: what simulated runs taught about where the closed form errs.

The trees correct the analytic prediction: they add to its attainment and multiply its costs and its capacity, so a plan unlike
the others keeps what queueing theory says of it. Beyond what they were trained on the analytic model answers alone.
"""

from collections.abc import Sequence

import numpy as np

from grainwise.domain.plan import Objective, Plan, Prediction
from grainwise.predictors.analytic import Analytic
from grainwise.predictors.evaluate import Evaluation
from grainwise.predictors.evaluator import Band, EvaluatorName, Judgement
from grainwise.predictors.features import features
from grainwise.predictors.groups import GroupFacts, Scenario
from grainwise.predictors.predictor_file import TARGETS, FeatureRange, Predictor, check_app
from grainwise.predictors.trees import Matrix, Trees

_MARGIN = 0.02
"""The part of a feature's range by which a value may lie outside it."""


class Learned:
    """Trained trees.

    Args:
        predictor: as it was read.
        name: what errors call it.

    Raises:
        PlatformError: LightGBM is not installed.
        ArtifactError: the trees cannot be used.
    """

    def __init__(self, predictor: Predictor, name: str = "the predictor") -> None:
        self.predictor = predictor
        self.file = name
        self._trees = {target: Trees(predictor.texts(target), target) for target in TARGETS}
        self._analytic = Analytic()

    @property
    def name(self) -> EvaluatorName:
        """``learned``."""
        return "learned"

    def judge(self, scenario: Scenario, plans: Sequence[Plan], snapshot: bytes = b"") -> tuple[Judgement, ...]:
        """Judge each plan when it is up; ``snapshot`` changes nothing.

        Raises:
            ArtifactError: the predictor was trained for another app, or with another profile of it.
        """
        check_app(self.predictor, scenario.app.name, scenario.model.profile_digest, self.file)
        facts: dict[int, GroupFacts] = {}
        predicted = [Evaluation(scenario, plan, facts).predict() for plan in plans]
        rows = [features(scenario, plan, known) for plan, known in zip(plans, predicted, strict=True)]
        outside = [_on_device(plan) or beyond(self.predictor.features, row) for plan, row in zip(plans, rows, strict=True)]
        within = [at for at, reason in enumerate(outside) if not reason]
        found: dict[int, Judgement] = {}
        if within:
            matrix = np.array([rows[at] for at in within], dtype=np.float64)
            quantiles = {target: trees.predict(matrix) for target, trees in self._trees.items()}
            for number, at in enumerate(within):
                own = {target: values[number] for target, values in quantiles.items()}
                found[at] = corrected(predicted[at], plans[at].objective, own)
        for at, reason in enumerate(outside):
            if reason:
                judged = self._analytic.judge(scenario, [plans[at]])[0]
                found[at] = Judgement(judged.attainment, judged.usd_per_hour, "analytic", judged.capacity_per_s, reason)
        return tuple(found[at] for at in range(len(plans)))


def _on_device(plan: Plan) -> str:
    """Why a plan with a function on a GPU is beyond any predictor: no setting that is trained on has one."""
    own = next(("+".join(function.stages) for function in plan.functions if function.device == "gpu"), "")
    return f"{own} runs on a GPU, trained on CPUs alone" if own else ""


def beyond(ranges: Sequence[FeatureRange], row: Sequence[float]) -> str:
    """Which features lie beyond what was trained on, in words; empty where none does."""
    found = []
    for feature, value in zip(ranges, row, strict=True):
        margin = _MARGIN * (feature.high - feature.low)
        if not feature.low - margin <= value <= feature.high + margin:
            found.append(f"{feature.name} is {value:.4g}, trained on {feature.low:.4g} to {feature.high:.4g}")
    return "; ".join(found)


def corrected(predicted: Prediction, objective: Objective, quantiles: dict[str, Matrix]) -> Judgement:
    """The judgement that quantiles of the trees make of an analytic prediction."""
    low, value, high = (min(1.0, max(0.0, predicted.attainment + float(each))) for each in quantiles["attainment"])
    usd = predicted.billed_usd_per_hour if objective == "billed" else predicted.provisioned_usd_per_hour
    return Judgement(
        attainment=Band(value, low, high),
        usd_per_hour=_times(usd, quantiles[objective]),
        by="learned",
        capacity_per_s=_times(predicted.capacity_per_s, quantiles["capacity"]),
    )


def _times(figure: float, ratios: Matrix) -> Band:
    low, value, high = (max(0.0, figure * float(each)) for each in ratios)
    return Band(value, low, high)
