"""Orion as policy sets (after Mahgoub et al., OSDI 2022, reconstructed): with its own pre-warming, and with ours.

Published: a model of the latency of a DAG with variance and correlation, and by it right sizes, right bundling, the right time
to pre-warm. Here sizes come from the evaluator's distribution, in which stages vary independently of one another, bundling is
how many instances share a fan-out, and pre-warming goes by rates, see ``autoscale_ahead``. Its platform places and routes: any
warm instance serves, wherever the data lies.
"""

from dataclasses import replace

from grainwise.planning.published import orion
from grainwise.policies import autoscale_ahead, batching, ordering, placement, routing
from grainwise.policies.own_sets import FIXED
from grainwise.policies.policy_set import PolicySet, Provenance

SOURCE = "Mahgoub et al.: Orion, OSDI 2022"

ORION_CONFIGURATION = replace(
    FIXED,
    name="orion_configuration",
    provenance=Provenance(
        "one static plan for the whole DAG, best-first from the smallest sizes until it meets the SLO; all else as ours",
        SOURCE,
        "reconstructed",
    ),
    configure=orion.configure_as_ours,
)
ORION = replace(
    FIXED,
    name="orion",
    provenance=Provenance(
        "one static plan, best-first from the smallest sizes; no batches, instances started for what arrivals will bring",
        SOURCE,
        "reconstructed",
    ),
    configure=orion.configure,
    batch_now=batching.one_at_a_time,
    batch_or_wait=batching.never_wait,
    rank=ordering.by_arrival,
    route=routing.anywhere,
    scale=autoscale_ahead.decide,
    place=placement.spread,
)

SETS: tuple[PolicySet, ...] = (ORION, ORION_CONFIGURATION)
