"""How many instances of a function? What keeps the items per instance at a target, as Knative's pod autoscaler does it.

After the published algorithm (knative.dev, "Additional autoscaling configuration for Knative Pod Autoscaler", default values):
the mean concurrency over a stable window of 60 s over the target per instance; where the mean over a panic window of 6 s asks
for twice the instances that are ready, that one counts, and for the length of a stable window nothing is scaled down. One step
goes down to half of what is ready at most, and up to a thousandfold. The target is 70 % of what an instance takes at once, here
its batch. It reads no model and no arrival rate.
"""

from grainwise.domain.because import Because
from grainwise.domain.time import SECOND, Micros
from grainwise.policies.autoscale import Panic, ScaleTo, ScaleView, whole_above

STABLE_WINDOW_S = 60
PANIC_WINDOW_S = 6
TARGET_UTILISATION = 0.7
PANIC_THRESHOLD = 2.0
MAX_UP_RATE = 1000
MAX_DOWN_RATE = 2
STABLE_WINDOW_US: Micros = STABLE_WINDOW_S * SECOND

CALM = Panic()
UNMEASURED = Because("nothing was measured yet")


def decide(view: ScaleView) -> ScaleTo:
    """The instances that the mean concurrency asks for; what is there where nothing was measured yet."""
    seen = view.concurrency
    bound = max(view.max_instances, view.min_instances)
    if seen is None:
        return ScaleTo(min(max(view.instances, view.min_instances), bound), UNMEASURED)
    target = TARGET_UTILISATION * seen.per_instance
    ready = max(1, view.instances)
    least, most = ready // MAX_DOWN_RATE, MAX_UP_RATE * ready
    stable = max(least, min(most, whole_above(seen.stable_items / target)))
    sudden = max(least, min(most, whole_above(seen.panic_items / target)))
    panic = seen.panic
    if sudden >= PANIC_THRESHOLD * ready:
        panic = Panic(seen.now, panic.instances)
    elif panic.last_at and panic.last_at + STABLE_WINDOW_US < seen.now:
        panic = CALM
    wanted, rule = stable, "the mean concurrency"
    if panic.last_at:
        wanted, rule = max(stable, sudden, panic.instances), "a burst of concurrency"
        panic = Panic(panic.last_at, wanted)
    facts = (
        ("stable_items", seen.stable_items),
        ("panic_items", seen.panic_items),
        ("target_per_instance", target),
        ("have", view.instances),
        ("max", view.max_instances),
    )
    return ScaleTo(min(max(wanted, view.min_instances), bound), Because(rule + " asks for it", facts), panic)
