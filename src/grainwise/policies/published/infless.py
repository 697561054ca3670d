"""INFless as policy sets (after Yang et al., ASPLOS 2022, reconstructed): with its own batching and scaling, and with ours.

Published: batching is built into the platform, instances of one function may differ, CPUs and accelerators are one resource,
run times are predicted from operators. Here profiles predict, and a plan has one configuration for a function. What keeps idle
instances up in INFless is a histogram of idle times, short and long term; the view of keep-alive holds no history, so they are
kept up for the time that the app says.
"""

from dataclasses import replace

from grainwise.planning.published import infless
from grainwise.policies import autoscale_rate, batching_until_full, ordering, placement_best_fit, routing
from grainwise.policies.own_sets import FIXED
from grainwise.policies.policy_set import PolicySet, Provenance

SOURCE = "Yang et al.: INFless, ASPLOS 2022"

INFLESS_CONFIGURATION = replace(
    FIXED,
    name="infless_configuration",
    provenance=Provenance(
        "of each function the batch, cores and share that serve most for the money in its part of the SLO; all else as ours",
        SOURCE,
        "reconstructed",
    ),
    configure=infless.configure_as_ours,
)
INFLESS = replace(
    FIXED,
    name="infless",
    provenance=Provenance(
        "of each function the batch, cores and share that serve most for the money; waits until a batch is full or the part of "
        "the SLO is used up, scales by the rate, best fit; not its histogram of idle times for keep-alive",
        SOURCE,
        "reconstructed",
    ),
    configure=infless.configure,
    batch_now=batching_until_full.full_batch,
    batch_or_wait=batching_until_full.decide,
    rank=ordering.by_arrival,
    route=routing.anywhere,
    scale=autoscale_rate.held_above_alpha,
    place=placement_best_fit.decide,
)

SETS: tuple[PolicySet, ...] = (INFLESS, INFLESS_CONFIGURATION)
