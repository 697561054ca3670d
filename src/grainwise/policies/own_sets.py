"""Our own sets of policies: the adaptive one is the product's, each other one changes an answer.

So a comparison says what that answer is worth. The slow loop decides what instances hold, the fast one what each invocation
runs of it. ``residency`` has the slow loop alone, ``extent`` the fast one, ``fixed`` neither.
"""

from dataclasses import replace

from grainwise.policies import (
    admission,
    autoscale,
    autoscale_concurrency,
    batching,
    extent,
    keep_alive,
    ordering,
    placement,
    regranulate,
    routing,
)
from grainwise.policies.policy_set import PolicySet, Provenance

ADAPTIVE = PolicySet(
    name="adaptive",
    provenance=Provenance("residency by the slow loop, the extent of each invocation by the fast one"),
    admit=admission.decide,
    batch_now=batching.without_waiting,
    batch_or_wait=batching.decide,
    rank=ordering.decide,
    route=routing.decide,
    scale=autoscale.decide,
    keep=keep_alive.decide,
    place=placement.decide,
    ask=regranulate.ask,
    verdict=regranulate.verdict,
    extent=extent.decide,
)
RESIDENCY = replace(
    ADAPTIVE,
    name="residency",
    provenance=Provenance("adaptive without the fast loop: an invocation runs all that its function holds"),
    extent=None,
)
EXTENT = replace(
    ADAPTIVE,
    name="extent",
    provenance=Provenance("adaptive without the slow loop: what instances hold stays as it was planned first"),
    ask=regranulate.never_ask,
    verdict=regranulate.never_switch,
)
FIXED = replace(
    EXTENT,
    name="fixed",
    provenance=Provenance("one granularity for good: functions as they were planned first, run whole"),
    extent=None,
)
FIFO = replace(
    ADAPTIVE, name="fifo", provenance=Provenance("adaptive that serves in the order of arrival"), rank=ordering.by_arrival
)
EAGER = replace(
    ADAPTIVE,
    name="eager",
    provenance=Provenance("adaptive that never waits for a larger batch"),
    batch_or_wait=batching.never_wait,
)
CONCURRENCY = replace(
    ADAPTIVE,
    name="concurrency",
    provenance=Provenance("adaptive, scaled by the items in each function"),
    scale=autoscale_concurrency.decide,
    measures_concurrency=True,
)
NO_BATCHING = replace(
    ADAPTIVE,
    name="no_batching",
    provenance=Provenance("adaptive without batches"),
    batch_now=batching.one_at_a_time,
)
NO_LOCALITY = replace(
    ADAPTIVE,
    name="no_locality",
    provenance=Provenance("adaptive wherever the data lies"),
    route=routing.anywhere,
    place=placement.spread,
)
NO_PREWARM = replace(
    ADAPTIVE,
    name="no_prewarm",
    provenance=Provenance("adaptive that starts instances only for what waits already"),
    scale=autoscale.by_backlog,
)
ONE_SHARE = replace(
    ADAPTIVE,
    name="one_share",
    provenance=Provenance("adaptive in which every invocation has the share of its function's plan"),
    varies_share=False,
)

OWN = (
    ADAPTIVE, RESIDENCY, EXTENT, FIXED, FIFO, EAGER, CONCURRENCY, NO_BATCHING, NO_LOCALITY, NO_PREWARM, ONE_SHARE,
)  # fmt: skip
