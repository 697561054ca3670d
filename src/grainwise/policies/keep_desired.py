"""May this idle instance end? As soon as there are more than the autoscaler asks for, as Knative's desired count does it.

Knative's default keeps no instance for its own sake (``scale-down-delay`` 0): how long a load that is gone is remembered is the
autoscaler's stable window (knative.dev, reconstructed). The app's keep-alive does not count.
"""

from grainwise.domain.because import Because
from grainwise.domain.time import Instant
from grainwise.policies.keep_alive import NOTHING_LEFT, End, IdleView, Keep

NOT_ASKED_FOR = Because("there are more instances than the autoscaler asks for")


def decide(view: IdleView, now: Instant) -> Keep | End:
    """End at once what serves nothing or is spare."""
    if view.serves_nothing:
        return End(NOTHING_LEFT)
    return End(NOT_ASKED_FOR) if view.is_spare else Keep(0)
