"""Aquatope as policy sets (after Zhou, Zhang and Delimitrou, ASPLOS 2023, reconstructed): with its own pool, and with ours.

Published: Bayesian models that know their uncertainty, one for a pool of pre-warmed instances and one for the resources of each
function under an end-to-end QoS. Here the resources come from Bayesian optimisation over predictions, see
``planning.published.aquatope``, and the pool from measured concurrency, see ``autoscale_pool``. Planning needs the library of
the extra ``published``.
"""

from dataclasses import replace

from grainwise.planning.published import aquatope
from grainwise.policies import autoscale_pool, batching, ordering, placement, routing
from grainwise.policies.own_sets import FIXED
from grainwise.policies.policy_set import PolicySet, Provenance

SOURCE = "Zhou, Zhang, Delimitrou: Aquatope, ASPLOS 2023"

AQUATOPE_CONFIGURATION = replace(
    FIXED,
    name="aquatope_configuration",
    provenance=Provenance(
        "one static plan per app by Bayesian optimisation of the cost under uncertain latencies; all else as ours",
        SOURCE,
        "reconstructed",
    ),
    configure=aquatope.configure_as_ours,
)
AQUATOPE = replace(
    FIXED,
    name="aquatope",
    provenance=Provenance(
        "one static plan by Bayesian optimisation; no batches, a pool of the mean concurrency and two deviations of it",
        SOURCE,
        "reconstructed",
    ),
    configure=aquatope.configure,
    batch_now=batching.one_at_a_time,
    batch_or_wait=batching.never_wait,
    rank=ordering.by_arrival,
    route=routing.anywhere,
    scale=autoscale_pool.decide,
    place=placement.spread,
    measures_concurrency=True,
)

SETS: tuple[PolicySet, ...] = (AQUATOPE, AQUATOPE_CONFIGURATION)
