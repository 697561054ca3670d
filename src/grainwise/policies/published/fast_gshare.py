"""FaST-GShare as policy sets (after Gu et al., ICPP 2023, reconstructed): with its own scaling and placement, and with ours.

Published: GPUs are shared in space and time, an instance has a part of the multiprocessors and a quota of time; profiles tell
what each such rectangle serves, the autoscaler and the choice of a node work by them; instances share models. Here a device
share is one number without a time quota, and the memory of models is not shared.
"""

from dataclasses import replace

from grainwise.planning.published import fast_gshare
from grainwise.policies import autoscale_rate, batching, ordering, placement_best_fit, routing
from grainwise.policies.own_sets import FIXED
from grainwise.policies.policy_set import PolicySet, Provenance

SOURCE = "Gu et al.: FaST-GShare, ICPP 2023"

FAST_GSHARE_CONFIGURATION = replace(
    FIXED,
    name="fast_gshare_configuration",
    provenance=Provenance(
        "of each function the share that serves most requests per unit of it within its part of the SLO; all else as ours",
        SOURCE,
        "reconstructed",
    ),
    configure=fast_gshare.configure_as_ours,
)
FAST_GSHARE = replace(
    FIXED,
    name="fast_gshare",
    provenance=Provenance(
        "of each function the share that serves most requests per unit of it; no batches, instances by the rate over the "
        "throughput of one, best fit on the fullest device; not its time quotas, nor its sharing of models",
        SOURCE,
        "reconstructed",
    ),
    configure=fast_gshare.configure,
    batch_now=batching.one_at_a_time,
    batch_or_wait=batching.never_wait,
    rank=ordering.by_arrival,
    route=routing.anywhere,
    scale=autoscale_rate.decide,
    place=placement_best_fit.decide,
)

SETS: tuple[PolicySet, ...] = (FAST_GSHARE, FAST_GSHARE_CONFIGURATION)
