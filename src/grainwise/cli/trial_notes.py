"""What a simulated result says of itself in words: what it was planned for, and what in it is assumed or generated."""

from collections.abc import Sequence

from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.cluster import Cluster
from grainwise.workloads.recorded import TraceSource
from grainwise.workloads.replaying import Replay
from grainwise.workloads.traffic import Traffic


def notes_of(
    cluster: Cluster, planned: Sequence[tuple[SimulatedApp, float]], traffic: Traffic, traces: TraceSource
) -> tuple[str, ...]:
    """A sentence for each app with its rate in requests per second, for each trace, and for the prices.

    Raises:
        ConfigurationError: a trace is missing.
        ArtifactError: a trace is malformed.
    """
    return (
        *(f"{app.spec.name} is planned for {rate:.4g} requests/s; {app.provenance}" for app, rate in planned),
        *_traces(traffic, traces),
        f"prices: {cluster.prices.source}",
    )


def _traces(traffic: Traffic, traces: TraceSource) -> list[str]:
    """What each trace is, once: its publisher, or that a generator stands in for it."""
    replays = [stream.arrivals for stream in traffic.streams if isinstance(stream.arrivals, Replay)]
    found = [traces(replay.trace, replay.only) for replay in replays]
    return list(dict.fromkeys(f"trace {recorded.name}: {recorded.note}" for recorded in found if recorded.note))
