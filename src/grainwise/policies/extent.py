"""How much of the DAG does this invocation run, on how many cores, for how many requests?

The cheapest first step whose way to the answer fits the slack. A larger batch is taken where it saves enough for each request,
since those that share an invocation wait for one another. Of a request that cannot be in time any more, see ``late``.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from grainwise.domain.because import Because
from grainwise.domain.time import Instant

WORTH_SHARING = 0.03
"""The least relative saving per request for which requests share an invocation."""


class Offer(Struct, frozen=True, gc=False):
    """A first step: the stages of ``mask`` on ``cpu_cores`` in a batch of ``batch`` items, and what may follow it.

    ``times_us`` ascend and ``costs`` (USD per request) descend with them: the exact Pareto front of what remains, the step
    itself included.
    """

    mask: int
    cpu_cores: float
    batch: int
    times_us: tuple[float, ...]
    costs: tuple[float, ...]

    def cost_within(self, slack_us: float) -> float | None:
        """The least cost of a way to the answer that takes no longer than ``slack_us``; ``None`` where none does."""
        at = bisect_right(self.times_us, slack_us)
        return self.costs[at - 1] if at else None


class ExtentView(Struct, frozen=True, gc=False):
    """The head of a queue: when it is due, and the first steps that an instance could take now, by increasing batch.

    ``extra_us`` is the predicted run time of its first stage beyond that of a mean request. ``late`` is what the app asks for
    when nothing is in time.
    """

    due: Instant
    offers: Sequence[Offer]
    extra_us: float
    late: Literal["cheapest", "fastest", "drop"]


class Run(Struct, frozen=True, gc=False):
    """Run this first step."""

    step: Offer
    because: Because


class Drop(Struct, frozen=True, gc=False):
    """Give the request up."""

    because: Because


def decide(view: ExtentView, now: Instant) -> Run | Drop:
    """The cheapest step in time; without one what the app asks for. There is at least one offer."""
    slack = view.due - now - view.extra_us
    best: Offer | None = None
    best_cost = 0.0
    for step in view.offers:
        cost = step.cost_within(slack)
        if cost is None:
            continue
        if best is not None:
            shares_more = step.batch > best.batch
            if cost >= (best_cost * (1 - WORTH_SHARING) if shares_more else best_cost):
                continue
        best, best_cost = step, cost
    if best is not None:
        return Run(best, Because("the cheapest in time", (("slack_ms", slack / 1000), ("usd_per_million", best_cost * 1e6))))
    return _late(view, slack)


def _late(view: ExtentView, slack: float) -> Run | Drop:
    fastest = min(view.offers, key=lambda step: (step.times_us[0], step.costs[-1]))
    needed = (("slack_ms", slack / 1000), ("needs_ms", fastest.times_us[0] / 1000))
    if view.late == "drop":
        return Drop(Because("it cannot be in time any more", needed))
    if view.late == "fastest":
        return Run(fastest, Because("late, so as fast as possible", needed))
    cheapest = min(view.offers, key=lambda step: (step.batch, step.costs[-1], step.times_us[0]))
    return Run(cheapest, Because("late, so as cheap as possible", needed))
