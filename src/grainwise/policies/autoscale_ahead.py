"""How many instances of a function? As our own autoscaler says, for what is on its way and not only for what has come.

After Orion's right pre-warming (OSDI'22, reconstructed): there the VM of each stage is started in time for the end of the stage
before it. Here a function is scaled by what the app's arrivals will offer to it, from the instant at which they arrive, so that
instances of late stages start while early ones still work. Starts are not timed to the end of the stage before, request by
request: the view knows rates and no single request, and reviews come once per second.
"""

from msgspec import structs

from grainwise.policies import autoscale
from grainwise.policies.autoscale import ScaleTo, ScaleView


def decide(view: ScaleView) -> ScaleTo:
    """The instances for the larger of what comes to the function and what the app's arrivals will bring to it."""
    return autoscale.decide(structs.replace(view, offered=max(view.offered, view.offered_ahead)))
