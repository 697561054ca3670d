"""What a planner is asked and what it answers. A problem is self-contained, so that it can be logged and replayed."""

from msgspec import Struct

from grainwise.domain.app import AppSpec
from grainwise.domain.machine import Capabilities, HopModel, Node, Prices
from grainwise.domain.plan import Grain, Objective, Plan, Prediction
from grainwise.domain.time import Instant
from grainwise.predictors.evaluator import EvaluatorName, Judgement
from grainwise.predictors.latency import LatencyModel
from grainwise.predictors.workload import Workload


class Problem(Struct, frozen=True):
    """One planning problem. ``grain`` forces a granularity; ``current`` is evaluated too, for hysteresis.

    ``evaluator`` judges the plans that come into question. ``snapshot`` is the controller's memory at ``now`` for one that goes
    on from there, empty for all others and before anything runs. ``policies`` names the set that controls the app;
    ``is_stagewise`` says whether it decides the extent of each invocation.
    """

    number: int
    app: AppSpec
    model: LatencyModel
    hop: HopModel
    workload: Workload
    nodes: tuple[Node, ...]
    capabilities: Capabilities
    prices: Prices
    objective: Objective = "provisioned"
    quantile: float = 0.95
    grain: Grain | None = None
    current: Plan | None = None
    evaluator: EvaluatorName = "analytic"
    now: Instant = 0
    snapshot: bytes = b""
    policies: str = "adaptive"
    is_stagewise: bool = False


class Option(Struct, frozen=True):
    """The best plan of one granularity, with its prediction; ``lacks`` says why it is not the winner.

    ``judged`` is what the problem's evaluator made of it, ``None`` where it was not worth asking.
    """

    plan: Plan
    predicted: Prediction
    meets_slo: bool
    lacks: str = ""
    judged: Judgement | None = None


class PlanTable(Struct, frozen=True):
    """Every granularity with its best plan, the winner first, and why it won.

    ``nearest`` says, when nothing is feasible, the nearest feasible SLO or rate. ``current`` is the prediction for
    ``Problem.current`` under the same workload, ``current_judged`` what the evaluator made of it. No plan that meets the SLO by
    additive times costs less than ``bound_usd_per_hour``; 0 where no bound was computed.
    """

    problem: int
    options: tuple[Option, ...]
    because: str
    is_feasible: bool
    nearest: str = ""
    current: Prediction | None = None
    device_class: str = ""
    expanded_nodes: int = 0
    evaluator: EvaluatorName = "analytic"
    current_judged: Judgement | None = None
    bound_usd_per_hour: float = 0.0

    @property
    def winner(self) -> Option:
        """The chosen option."""
        return self.options[0]


__all__ = ["Option", "PlanTable", "Problem", "Workload"]
