"""The simulated twin of a live run: the same arrivals, kinds, plan and controller on this machine as a cluster of one."""

from collections.abc import Sequence

from msgspec import Struct

from grainwise.cli.calibrate_client import Seen
from grainwise.domain.app import AppSpec
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Capabilities, Node
from grainwise.domain.plan import Plan
from grainwise.domain.time import Instant
from grainwise.profiles.artifact import Profile
from grainwise.profiles.calibration import DoorCalibration
from grainwise.simulation.app import SimulatedApp, simulated_app
from grainwise.simulation.calibration import Observed, Trail
from grainwise.simulation.cluster import Cluster, DoorModel, this_machine
from grainwise.simulation.run import Scenario, Simulation
from grainwise.workloads.traffic import Arrival


class Twin(Struct, frozen=True):
    """What is simulated beside live runs. ``door_us`` is the time that a request is expected to spend in the door."""

    app: SimulatedApp
    cluster: Cluster
    door_us: float

    @classmethod
    def of(
        cls, profile: Profile, spec: AppSpec, plan: Plan, rate_per_s: float, node: Node, capabilities: Capabilities
    ) -> "Twin":
        """The twin of what is served from a profile, corrected where that has been calibrated."""
        door = profile.calibration.door if profile.calibration is not None else DoorCalibration(0, 0.0, 0.0)
        # The local runtime calls an instance ready once its stages are loaded: the first request pays for the first call.
        cluster = this_machine(node, capabilities=capabilities, door=DoorModel(door.ingress_us, door.egress_us), warms_up=False)
        app = simulated_app(profile, spec, plan, rate_per_s=rate_per_s, config=AppConfig(replan_us=0))
        return cls(app, cluster, door.ingress_us + door.egress_us)


def simulate(twin: Twin, arrivals: Sequence[Instant], seed: int) -> tuple[Trail, Instant]:
    """The trail of a run in virtual time, and the instant from which its arrivals count; kinds come in turn."""
    trail: Trail = []
    name, kinds = twin.app.spec.name, len(twin.app.kinds)
    duration = (arrivals[-1] if arrivals else 0) + 1
    simulation = Simulation(
        Scenario(twin.cluster, (twin.app,), duration, seed),
        (Arrival(at, name) for at in arrivals),
        kind_of=lambda number: (number - 1) % kinds,
        observers=(lambda event, actions, now: trail.append((event, actions, now)),),
    )
    simulation.run()
    return trail, simulation.origin


def door_us(seen: Sequence[Seen], observed: Observed) -> float:
    """Mean microseconds that answered requests spent outside the controller's latency, in both directions."""
    door = door_of(seen, observed)
    return door.ingress_us + door.egress_us


def door_of(seen: Sequence[Seen], observed: Observed) -> DoorCalibration:
    """Both ways through the door, from means over all requests of a run: which request is which does not matter for them.

    Requests that were refused have no answer to compare; then nothing is known and both ways are 0.
    """
    count = len(seen)
    if not count or len(observed.arrived) != count or len(observed.responded) != count:
        return DoorCalibration(0, 0.0, 0.0)
    start = observed.arrived[0]
    sent, done = sum(each.sent - start for each in seen), sum(each.done - start for each in seen)
    arrived, responded = sum(each - start for each in observed.arrived), sum(each - start for each in observed.responded)
    return DoorCalibration(count, round(max(0, arrived - sent) / count, 1), round(max(0, done - responded) / count, 1))
