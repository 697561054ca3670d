"""Published schedulers as policy sets, each after its paper, reconstructed.

Of each there are two: with its own parts for every question that it answers, and, under a name that ends in
``_configuration``, with ours for all but the configuration, so that a comparison shows what the configuration alone is worth.
"""

from grainwise.policies.policy_set import PolicySet
from grainwise.policies.published import aquatope, esg, fast_gshare, infless, knative, orion

PUBLISHED: tuple[PolicySet, ...] = (
    *esg.SETS, *infless.SETS, *fast_gshare.SETS, *orion.SETS, *aquatope.SETS, *knative.SETS,
)  # fmt: skip
