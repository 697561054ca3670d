"""What ESG offers at dispatch: the first configurations of the cheapest paths through what is left, for the time that is left.

Before each function runs its configuration is searched for anew, with the real time left (after ESG, HPDC 2024; that it does so
is published, how is reconstructed, see ``planning.published``). Where no path is in time one is run as best effort: the fastest
or, where the app asks for that, the cheapest, which keeps overload from feeding itself. Where nothing that was
offered fitted for long the minimum configuration is run.

An answer depends on what is left, on how many items wait and on the time left, which is rounded down to 10 ms, or to a
hundredth of the SLO where that is less: so answers are kept. Of a function's configuration an invocation chooses the batch and,
where the platform can change it, its vCPUs; a part of a device is given when an instance starts.
"""

import math
from collections.abc import Sequence

from msgspec import Struct

from grainwise.domain.because import Because
from grainwise.domain.extent import common_scope
from grainwise.domain.graph import Graph
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.domain.time import Instant, from_ms
from grainwise.planning.best import layers_of
from grainwise.planning.granularity import explain_illegal
from grainwise.planning.lattice import ancestors, bits, descendants
from grainwise.planning.options import SHARES, powers_up_to, useful_batch
from grainwise.planning.published.esg_1q import Configuration, Layers, Path
from grainwise.planning.published.esg_layers import PATHS, Distribution, Way, configurations, lengths
from grainwise.policies.extent import ExtentView, Offer, Run
from grainwise.predictors.effects import Setting
from grainwise.predictors.groups import GroupFacts, group_facts

RECHECKS = 8
"""So often in a row nothing may fit before a function gets its minimum configuration."""

BUCKET_US = 10_000
BUCKETS = 100
"""Time left is rounded down to so many microseconds, or to the SLO over so many buckets where that is less."""

MOST_KEPT = 1 << 16
"""Answers that are kept; then they are forgotten, all at once."""

CHEAPEST = "the cheapest path in time"
NEXT = "the first configuration that fits of the cheapest paths in time"
BEST_EFFORT = "no path is in time, so the fastest"
CHEAP_EFFORT = "no path is in time, so the cheapest"
FORCED = "nothing has fitted for long, so the minimum configuration"


class Ranked(Offer, frozen=True, gc=False):
    """A first step with the reason for which it is offered; the first one that fits is taken."""

    because: Because


class _Unit(Struct, frozen=True):
    """Stages of one function that an invocation runs together."""

    mask: int
    facts: GroupFacts
    function: FunctionPlan
    ways: tuple[Way, ...]


class EsgOffers:
    """The configurations that ESG offers under one plan.

    Args:
        scenario: the app with everything that is known about it, and the machines.
        plan: whose functions hold the stages.
    """

    doubt = 1.0
    """The times that offers hold are what a path is searched with: a policy that takes the first one asks for no other."""

    def __init__(self, scenario: Setting, plan: Plan) -> None:
        graph = scenario.app.graph
        self._scenario = scenario
        self._objective = plan.objective
        self._shares = sum(function.instances * function.cpu_cores for function in plan.functions)
        self._graph = graph
        self._ancestors = ancestors(graph.predecessors)
        self._from = tuple(1 << at | after for at, after in enumerate(descendants(graph.predecessors)))
        self._function_of = {
            stage: function for function in plan.functions for stage in _members(graph.mask(function.stages))
        }  # fmt: skip
        masks = tuple(part for function in plan.functions for part in _parts(graph, graph.mask(function.stages)))
        order, before = layers_of(graph, masks)
        self._units = [self._unit(masks[at]) for at in order]
        self._alone = {stage: self._unit(1 << stage) for stage in self._function_of}
        self._unit_at = {(unit.mask & -unit.mask).bit_length() - 1: at for at, unit in enumerate(self._units)}
        predecessors = [sum(1 << other for other in waits) for waits in before]
        self._distribution = Distribution(predecessors, self._lengths())
        self._bucket_us = max(1, min(BUCKET_US, from_ms(scenario.app.slo.latency_ms) // BUCKETS))
        self._levels = powers_up_to(max(way[0] for unit in self._alone.values() for way in unit.ways))
        self._layers: dict[tuple[int, ...], Layers] = {}
        self._single: dict[int, Layers] = {}
        self._kept: dict[tuple[int, int, int, int, bool], tuple[Ranked, ...]] = {}

    def useful(self, mask: int) -> int:
        """The largest batch of an extent that some stage of it can use, or that its part of a device has the memory for."""
        function = self._function_of[(mask & -mask).bit_length() - 1]
        return _most(group_facts(self._scenario, mask), function)

    def needs(self, mask: int) -> tuple[int, ...]:
        """Nothing: what is run together waits for no more than its first stage."""
        return ()

    def offers(self, done: int, head: int, items: int, side: int, slack_us: float, tries: int) -> Sequence[Ranked]:
        """The first configurations of the cheapest paths, cheapest first; see ``OfferSource``.

        ``side`` is of no matter: other instances take what is left. From ``RECHECKS`` on ``tries`` forces the minimum.
        """
        level = self._levels[0]
        for each in self._levels:
            if each <= items:
                level = each
        bucket = int(slack_us) // self._bucket_us if slack_us > 0 else 0
        done = (done | self._ancestors[head]) & ~self._from[head]
        is_forced = tries >= RECHECKS
        key = (done, head, level, bucket, is_forced)
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            found = self._kept[key] = self._make(done, head, level, bucket * self._bucket_us, is_forced)
        return found

    def _make(self, done: int, head: int, queue: int, slack_us: int, is_forced: bool) -> tuple[Ranked, ...]:
        at = self._unit_at.get(head)
        if at is None or self._units[at].mask & done:
            # The head stands in the middle of what is run together: a request that began under another plan.
            unit, layers, limit_us = self._alone[head], self._alone_layers(head), slack_us
        else:
            ended = 0
            for number, each in enumerate(self._units):
                if not each.mask & ~done:
                    ended |= 1 << number
            run = self._distribution.run_from(ended, at, slack_us)
            unit, layers, limit_us = self._units[at], self._layers_of(run.functions), run.time_us
        if is_forced:
            first = min(range(len(layers.layers[0])), key=lambda place: _size(layers, place))
            least = layers.layers[0][first]
            return (_ranked(unit, layers, Path((first,), least.time_us, least.cost), FORCED, limit_us),)
        found = layers.search(limit_us, PATHS, queue).firsts
        if found:
            return tuple(
                _ranked(unit, layers, path, NEXT if rank else CHEAPEST, limit_us) for rank, path in enumerate(found)
            )  # fmt: skip
        fastest = layers.fastest(queue)
        if fastest is None:
            return ()
        cheap = layers.search(math.inf, PATHS, queue).firsts
        return (
            _ranked(unit, layers, fastest, BEST_EFFORT, limit_us),
            *(_ranked(unit, layers, path, CHEAP_EFFORT, limit_us) for path in cheap),
        )

    def _layers_of(self, functions: tuple[int, ...]) -> Layers:
        found = self._layers.get(functions)
        if found is None:
            found = self._layers[functions] = Layers([self._configurations(self._units[each]) for each in functions])
        return found

    def _alone_layers(self, head: int) -> Layers:
        found = self._single.get(head)
        if found is None:
            found = self._single[head] = Layers([self._configurations(self._alone[head])])
        return found

    def _configurations(self, unit: _Unit) -> tuple[Configuration, ...]:
        return configurations(self._scenario, unit.facts, unit.ways, unit.function.instances)

    def _unit(self, mask: int) -> _Unit:
        function = self._function_of[(mask & -mask).bit_length() - 1]
        facts = group_facts(self._scenario, mask)
        batches, share = powers_up_to(_most(facts, function)), function.device_fraction
        return _Unit(
            mask, facts, function, tuple((batch, cores, share) for batch in batches for cores in self._cores(function))
        )

    def _cores(self, function: FunctionPlan) -> tuple[float, ...]:
        """The vCPUs that an invocation may have: the function's, and others where the platform can change them each time."""
        capabilities = self._scenario.capabilities
        if capabilities.is_share_hard or capabilities.share_scope != "invocation":
            return (function.cpu_cores,)
        most = max((node.usable_cores for node in self._scenario.nodes), default=0.0)
        if most <= 0:
            # While there is no machine nothing runs, on any share.
            return (function.cpu_cores,)
        if self._objective == "provisioned":
            # No more than its instances have shares of is ever free for an app on a node.
            most = min(most, max(function.cpu_cores, self._shares / max(1, len(self._scenario.nodes))))
        ladder = {share: None for share in SHARES if capabilities.min_cpu_cores <= share <= most}
        return tuple(sorted({**ladder, min(function.cpu_cores, most): None}))

    def _lengths(self) -> tuple[float, ...]:
        """The weights of what is run together, over all batches and vCPUs, each on the part of a device that it has."""
        most = [max(way[0] for way in unit.ways) for unit in self._units]
        cores = sorted({way[1]: None for unit in self._units for way in unit.ways})
        shares = sorted({way[2]: None for unit in self._units for way in unit.ways if way[2]}) or [0.0]
        ways = [(batch, share, gpu) for batch in powers_up_to(max(most)) for gpu in shares for share in cores]
        return lengths(self._scenario, [unit.facts for unit in self._units], most, ways)


def decide(view: ExtentView, now: Instant) -> Run:
    """The first of what is offered and fits, as ESG tries one configuration of its queue after the other.

    Late requests are run as fast as possible or, by default, as cheaply, as the app asks; they are not dropped.
    """
    offers = [each for each in view.offers if isinstance(each, Ranked)]
    first = offers[0]
    if view.late != "fastest":
        first = next((each for each in offers if each.because.rule != BEST_EFFORT), first)
    return Run(first, first.because, is_exact=True)


def _ranked(unit: _Unit, layers: Layers, path: Path, rule: str, limit_us: float) -> Ranked:
    first = layers.layers[0][path.places[0]]
    facts = (("has_ms", limit_us / 1000), ("needs_ms", path.time_us / 1000), ("usd_per_million", path.cost * 1e6))
    return Ranked(unit.mask, first.cpu_cores, first.batch, first.requests, (path.time_us,), (path.cost,), Because(rule, facts))


def _size(layers: Layers, place: int) -> tuple[int, float]:
    """What makes a configuration small: its batch, then its vCPUs."""
    each = layers.layers[0][place]
    return (each.batch, each.cpu_cores)


def _most(facts: GroupFacts, function: FunctionPlan) -> int:
    """The largest batch of an invocation: on a device the memory for one was planned with the function."""
    useful = useful_batch(facts)
    return min(useful, function.max_batch) if function.device_fraction and not facts.extent.scope else useful


def _parts(graph: Graph, function: int) -> tuple[int, ...]:
    """A function as it is run: whole where it begins at one stage and waits for no more than that one, else stage by stage."""
    stages = _members(function)
    entries = [stage for stage in stages if not graph.predecessors[stage] & function]
    before = ancestors(graph.predecessors)[entries[0]]
    waits = 0
    for stage in stages:
        waits |= graph.predecessors[stage] & ~function
    is_rooted = len(entries) == 1 and not waits & ~before
    if (
        is_rooted
        and common_scope(graph, function) == graph.stages[entries[0]].scope
        and explain_illegal(graph, function) is None
    ):
        return (function,)
    return tuple(1 << stage for stage in stages)


def _members(mask: int) -> list[int]:
    return list(bits(mask))
