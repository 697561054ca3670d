"""How many instances of a function? A pre-warmed pool: the mean of the measured concurrency and some deviations of it.

After Aquatope (ASPLOS'23, reconstructed): there a Bayesian neural network predicts how many invocations come and how sure that
is, and the pool has room for the uncertainty. Here mean and deviation are those of the last minute's samples, one per second,
so the pool follows a load and does not foresee it.
"""

import math

from grainwise.domain.because import Because
from grainwise.policies.autoscale import ScaleTo, ScaleView, whole_above

DEVIATIONS = 2.0
"""How many standard deviations the pool holds beyond the mean; not known of Aquatope."""

UNMEASURED = Because("nothing was measured yet")
POOL = "the mean concurrency and its deviations ask for it"


def decide(view: ScaleView) -> ScaleTo:
    """The pool for what was measured; what is there where nothing was measured yet."""
    seen = view.concurrency
    bound = max(view.max_instances, view.min_instances)
    if seen is None:
        return ScaleTo(min(max(view.instances, view.min_instances), bound), UNMEASURED)
    deviation = math.sqrt(seen.variance)
    pool = whole_above((seen.stable_items + DEVIATIONS * deviation) / seen.per_instance)
    facts = (("mean_items", seen.stable_items), ("deviation_items", deviation), ("have", view.instances))
    return ScaleTo(min(max(pool, view.min_instances), bound), Because(POOL, facts))
