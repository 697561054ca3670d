"""How much of the DAG does this invocation run, on how many cores, for how many requests?

The cheapest first step whose way to the answer fits the slack; and of those that cost hardly more the fastest, since a
prediction may be wrong and time that is bought for next to nothing is the best insurance. So fan-outs are taken apart while
instances are idle. Requests that are surely in time share an invocation where that saves something; others only where on the
mean they are answered sooner for it. Of a request that cannot be in time any more, see ``late``.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from grainwise.domain.because import Because
from grainwise.domain.time import Instant

WORTH_A_HOP = 0.01
"""The least relative gain in time for which another way that costs about the same is taken than the one of fewest hops."""

WORTH_SAVING = 0.02
"""The least relative saving for which a request is served later than it could be."""

WORTH_SHARING = 0.05
"""The least relative saving for which requests that could be served apart share an invocation, and let others wait longer."""

IN_TIME, WITH_LUCK = "the cheapest in time", "the cheapest in time with luck"
TOO_LATE, FAST, CHEAP = "it cannot be in time any more", "late, so as fast as possible", "late, so as cheap as possible"


class Offer(Struct, frozen=True, gc=False):
    """A first step: the stages of ``mask`` on ``cpu_cores`` in a batch of ``batch`` items, and what may follow it.

    ``requests`` share the way to the answer; a fan-out's items may be of one request and still come in batches.

    ``times_us`` ascend and ``costs`` (USD per request) descend with them: the exact Pareto front of what remains, the step
    itself included.
    """

    mask: int
    cpu_cores: float
    batch: int
    requests: int
    times_us: tuple[float, ...]
    costs: tuple[float, ...]

    def cost_within(self, slack_us: float) -> float | None:
        """The least cost of a way to the answer that takes no longer than ``slack_us``; ``None`` where none does."""
        at = bisect_right(self.times_us, slack_us)
        return self.costs[at - 1] if at else None

    def fastest_for(self, usd: float) -> tuple[float, float] | None:
        """Time and cost of the fastest way to the answer that costs no more than ``usd``; ``None`` where each costs more."""
        costs = self.costs
        low, high = 0, len(costs)
        while low < high:
            middle = (low + high) // 2
            if costs[middle] <= usd:
                high = middle
            else:
                low = middle + 1
        return (self.times_us[low], costs[low]) if low < len(costs) else None


class OfferSource(Protocol):
    """What can run next under one plan, at every point of the DAG."""

    @property
    def doubt(self) -> float:
        """The high times that offers hold over mean ones."""
        ...

    def useful(self, mask: int) -> int:
        """The largest batch of an extent that some stage of it can use."""
        ...

    def needs(self, mask: int) -> tuple[int, ...]:
        """Numbers of the sources that an extent reads and that may be unknown when its first stage can run."""
        ...

    def offers(self, done: int, head: int, items: int, side: int, slack_us: float, tries: int) -> Sequence["Offer"]:
        """The first steps for ``items`` that wait for stage ``head`` of requests that have run ``done``.

        Args:
            done: mask of stages.
            head: a stage.
            items: how many wait, so that no larger batch is offered.
            side: how many instances could share them.
            slack_us: the time until the head of the queue is due; negative where it is late.
            tries: how often in a row nothing of what was offered fitted what was free.
        """
        ...


class ExtentView(Struct, frozen=True, gc=False):
    """The head of a queue: when it is due, and the first steps that an instance could take now, by increasing batch.

    ``extra_us`` is the predicted run time of its first stage beyond that of a mean request. Offers hold high times, ``doubt``
    times the mean ones. ``late`` is what the app asks for when nothing is in time. ``due_by`` says how many ranges of the
    queue, up to a number, are due by an instant.
    """

    due: Instant
    offers: Sequence[Offer]
    extra_us: float
    doubt: float
    late: Literal["cheapest", "fastest", "drop"]
    due_by: Callable[[Instant, int], int] | None = None


class Run(Struct, frozen=True, gc=False):
    """Run this first step. Its batch is a bound, ``is_exact``: on no more items even where no larger one was on offer."""

    step: Offer
    because: Because
    is_exact: bool = False


class Drop(Struct, frozen=True, gc=False):
    """Give the request up."""

    because: Because


def decide(view: ExtentView, now: Instant) -> Run | Drop:
    """The cheapest step in time, safely or with luck; without one what the app asks for. There is at least one offer."""
    slack = view.due - now - view.extra_us
    if len(view.offers) == 1:
        return _only(view, slack)
    safe = _cheapest(view.offers, slack)
    if safe is not None:
        return Run(safe[0], Because(IN_TIME, _facts(slack, safe)))
    offers = _sooner(view.offers)
    lucky = _cheapest(offers, slack * view.doubt)
    if lucky is not None:
        return Run(lucky[0], Because(WITH_LUCK, _facts(slack, lucky)))
    if view.late == "drop":
        return Drop(Because(TOO_LATE, (("slack_ms", slack / 1000),)))
    if view.late == "fastest":
        offer = min(offers, key=lambda each: (each.times_us[0], each.costs[0]))
        return Run(offer, Because(FAST, _facts(slack, (offer, offer.times_us[0], offer.costs[0]))))
    late = _cheapest(_lost_together(view, now), math.inf)
    assert late is not None
    return Run(late[0], Because(CHEAP, _facts(slack, late)))


def _only(view: ExtentView, slack: float) -> Run | Drop:
    """The same where there is nothing to choose but what follows."""
    offer = view.offers[0]
    if (least := offer.cost_within(slack)) is not None:
        rule = IN_TIME
    elif (least := offer.cost_within(slack * view.doubt)) is not None:
        rule = WITH_LUCK
    elif view.late == "drop":
        return Drop(Because(TOO_LATE, (("slack_ms", slack / 1000),)))
    elif view.late == "fastest":
        rule, least = FAST, offer.costs[0]
    else:
        rule, least = CHEAP, offer.costs[-1]
    found = offer.fastest_for(least * (1 + WORTH_SAVING))
    return Run(offer, Because(rule, _facts(slack, (offer, *(found or (offer.times_us[0], least))))))


def _sooner(offers: Sequence[Offer]) -> Sequence[Offer]:
    """Without those that make requests wait for one another and do not make up for it.

    Of n requests one after the other the mean one is answered after (n + 1) / 2 runs, of n together each after n runs that take
    1 - s of the time: sooner where s, the saving, is above (n - 1) / 2n.
    """
    alone = min((each.costs[-1] for each in offers if each.requests == 1), default=0.0)
    return [
        each
        for each in offers
        if each.requests == 1 or 2 * each.requests * each.costs[-1] < (each.requests + 1) * alone or alone <= 0
    ]


def _lost_together(view: ExtentView, now: Instant) -> Sequence[Offer]:
    """The offers for no more requests than are late beyond help: they harm one another no more, and those in time are left out.

    A queue that has grown too long is so worked off at the rate of full batches.
    """
    most = max(each.requests for each in view.offers)
    if most == 1 or view.due_by is None:
        return _sooner(view.offers)
    soonest = min(each.times_us[0] for each in view.offers) / max(view.doubt, 1.0)
    lost = view.due_by(now + int(soonest), most)
    return [each for each in view.offers if each.requests <= max(1, lost)] or _sooner(view.offers)


def _cheapest(offers: Sequence[Offer], slack_us: float) -> tuple[Offer, float, float] | None:
    """The fastest of those that cost hardly more than the cheapest within the slack, with its time and cost.

    Offers come by increasing company and then by decreasing extent, so that of equals the first is best.
    """
    least: float | None = None
    cheapest: Offer | None = None
    for offer in offers:
        cost = offer.cost_within(slack_us)
        if cost is None:
            continue
        # Offers come by increasing company, so who is served alone is known first.
        worth = cost if cheapest is None or offer.requests == cheapest.requests else cost * (1 + WORTH_SHARING)
        if least is None or worth < least:
            least, cheapest = cost, offer
    if least is None or cheapest is None:
        return None
    bound = least * (1 + WORTH_SAVING)
    fastest = cheapest.fastest_for(bound)
    best = None if fastest is None else (cheapest, *fastest)
    for offer in offers:
        if offer.requests > cheapest.requests:
            break
        found = offer.fastest_for(bound)
        if found is not None and (best is None or found[0] < best[1] * (1 - WORTH_A_HOP)):
            best = (offer, *found)
    return best


def _facts(slack_us: float, chosen: tuple[Offer, float, float]) -> tuple[tuple[str, float | int | str], ...]:
    _, time_us, usd = chosen
    return (("slack_ms", slack_us / 1000), ("needs_ms", time_us / 1000), ("usd_per_million", usd * 1e6))
