"""Knative's defaults as policy sets (after knative.dev, reconstructed): with its autoscaler, and with ours.

Every stage is a service of its own with one shape of instance; concurrency alone decides how many there are. An activator that
buffers requests, cold starts of an image and the mesh between services are not modelled.
"""

from dataclasses import replace

from grainwise.planning.published import knative
from grainwise.policies import autoscale_concurrency, batching, keep_desired, ordering, placement, routing_least_loaded
from grainwise.policies.own_sets import FIXED
from grainwise.policies.policy_set import PolicySet, Provenance

SOURCE = "Knative Serving, knative.dev, default values"

KNATIVE_CONFIGURATION = replace(
    FIXED,
    name="knative_configuration",
    provenance=Provenance(
        "every stage on one core and the smallest share of a device that holds it, batches as declared; all else as ours",
        SOURCE,
        "reconstructed",
    ),
    configure=knative.configure_as_ours,
)
KNATIVE = replace(
    FIXED,
    name="knative",
    provenance=Provenance(
        "every stage on one core without batches, as many as its concurrency asks for over a stable and a panic window",
        SOURCE,
        "reconstructed",
    ),
    configure=knative.configure,
    batch_now=batching.one_at_a_time,
    batch_or_wait=batching.never_wait,
    rank=ordering.by_arrival,
    route=routing_least_loaded.decide,
    scale=autoscale_concurrency.decide,
    keep=keep_desired.decide,
    place=placement.spread,
    measures_concurrency=True,
)

SETS: tuple[PolicySet, ...] = (KNATIVE, KNATIVE_CONFIGURATION)
