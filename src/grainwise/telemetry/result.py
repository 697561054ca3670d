"""What a run came to: one type for simulated, emulated and measured runs, so that they are rendered and compared alike."""

from typing import Literal

import msgspec
from msgspec import Struct

from grainwise.domain.errors import ArtifactError

RESULT_SCHEMA = 2
Kind = Literal["simulated", "emulated", "measured"]


class Latency(Struct, frozen=True):
    """Latency of the answered requests, arrival to answer at the controller; the client's own overhead is not in it.

    Quantiles within 0.1 %; ``mean_ms`` and ``max_ms`` are exact. With ``count`` 0 every figure is 0 and says nothing.
    """

    count: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class Shares(Struct, frozen=True):
    """Mean parts of a latency. ``queue_ms`` is waiting while an instance could have served, ``cold_ms`` while none could."""

    queue_ms: float
    service_ms: float
    hop_ms: float
    cold_ms: float

    @property
    def total_ms(self) -> float:
        """The sum of the parts."""
        return self.queue_ms + self.service_ms + self.hop_ms + self.cold_ms


class Cost(Struct, frozen=True):
    """Both costs in USD. ``per_1000`` counts answered requests, 0 where there were none."""

    billed_usd: float
    provisioned_usd: float
    billed_usd_per_1000: float
    provisioned_usd_per_1000: float


class ColdStarts(Struct, frozen=True):
    """Starts that became ready, with the mean of each part, and loads of further stages into running instances."""

    count: int
    process_ms: float
    import_ms: float
    load_ms: float
    first_call_ms: float
    stage_loads: int
    stage_load_ms: float


class FunctionResult(Struct, frozen=True):
    """One function of an app: the extents that were invoked and the instances that were up under this set of stages.

    ``shares`` are means per visit of a request (a range of items); ``utilisation`` is busy over provisioned core-seconds of
    its instances, which also serve other extents once they are adopted. ``provisioned_usd`` belongs to the residency,
    ``billed_usd`` to the extent.
    """

    name: str
    invocations: int
    items: int
    visits: int
    mean_batch: float
    busy_s: float
    shares: Shares
    billed_usd: float
    provisioned_usd: float
    utilisation: float
    cold_starts: int
    max_instances: int
    instance_s: float


class NodeResult(Struct, frozen=True):
    """One node: busy and provisioned core-seconds of its instances.

    ``utilisation`` is busy over provisioned, ``allocated_fraction`` provisioned over what the node could give.
    """

    name: str
    usable_cores: float
    busy_core_s: float
    provisioned_core_s: float
    utilisation: float
    allocated_fraction: float


class Regranulation(Struct, frozen=True):
    """The instant of the first invocation under another granularity, in seconds of the measured time."""

    at_s: float
    previous: str
    grain: str


class Timeline(Struct, frozen=True):
    """At most 600 bins of ``width_s`` seconds; ``end_s`` is the end of each.

    ``offered``, ``answered`` and ``met`` are counts inside a bin; ``in_flight`` and ``instances`` (ready ones, by function)
    stand at its end; costs are means over it.
    """

    width_s: float
    end_s: tuple[float, ...]
    offered: tuple[int, ...]
    answered: tuple[int, ...]
    met: tuple[int, ...]
    in_flight: tuple[int, ...]
    instances: dict[str, tuple[int, ...]]
    billed_usd_per_hour: tuple[float, ...]
    provisioned_usd_per_hour: tuple[float, ...]
    grain: tuple[str, ...]


class TenantResult(Struct, frozen=True):
    """The requests of one tenant of an app."""

    name: str
    offered: int
    answered: int
    met: int
    attainment: float
    latency: Latency


class AppResult(Struct, frozen=True):
    """One app. ``offered`` counts every request that arrived in the measured time.

    ``attainment`` is ``met / offered``: rejections, cancellations and requests that were ``unfinished`` when the run ended are
    misses. ``rejected`` counts by code (``cancelled`` included). ``cdf_ms`` has up to 200 points (latency, fraction of the
    answered requests at or below it). ``offered_per_s`` and ``goodput_per_s`` are over the time in which requests came.
    ``local_hops_fraction`` is the part of the hops from function to function that stayed on their node, where a hop begins at
    whatever made the last of its inputs; None where there were none, and in results from before it was counted.
    """

    name: str
    slo_ms: float
    target: float
    offered: int
    answered: int
    met: int
    unfinished: int
    rejected: dict[str, int]
    attainment: float
    offered_per_s: float
    goodput_per_s: float
    latency: Latency
    shares: Shares
    cost: Cost
    cold_starts: ColdStarts
    failures: dict[str, int]
    functions: tuple[FunctionResult, ...]
    tenants: tuple[TenantResult, ...]
    grain: str
    regranulations: tuple[Regranulation, ...]
    cdf_ms: tuple[tuple[float, float], ...]
    timeline: Timeline
    local_hops_fraction: float | None = None

    @property
    def meets_slo(self) -> bool:
        """Whether the target was reached."""
        return self.attainment >= self.target


class InstanceSpan(Struct, frozen=True):
    """An instance from start to end in seconds of the measured time; negative in the warm-up, None where it did not come."""

    instance: int
    app: str
    function: str
    node: str
    started_s: float
    ready_s: float | None
    ended_s: float | None
    end: str
    busy_fraction: float


class Provenance(Struct, frozen=True):
    """What the run was made of, in words and digests, by name."""

    seed: int | None = None
    seeds: dict[str, int] = {}
    policy: str = ""
    cluster: str = ""
    workload: str = ""
    versions: dict[str, str] = {}
    digests: dict[str, str] = {}
    notes: tuple[str, ...] = ()


class RunResult(Struct, frozen=True):
    """What a run came to. ``duration_s`` is the measured time, after ``warmup_s``; ``events`` counts those handled in it.

    Requests came in its first ``offered_s`` seconds; what is left of ``duration_s`` is the wait for the last answers, which
    counts for costs and not for rates.
    ``instances`` are the first ones of the run, ``instances_left_out`` how many more there were. ``unknown_app`` counts
    requests for an app that was not there.
    """

    schema: int
    kind: Kind
    hardware: str
    duration_s: float
    warmup_s: float
    events: int
    unknown_app: int
    apps: tuple[AppResult, ...]
    nodes: tuple[NodeResult, ...]
    instances: tuple[InstanceSpan, ...]
    instances_left_out: int
    provenance: Provenance
    offered_s: float

    @property
    def headline(self) -> str:
        """The first line of every rendering: what kind of run, on what."""
        return f"{self.kind} on {self.hardware or 'hardware that was not named'}"

    def app(self, name: str) -> AppResult:
        """The result of one app.

        Raises:
            KeyError: the run had no such app.
        """
        for each in self.apps:
            if each.name == name:
                return each
        raise KeyError(name)

    def to_json(self) -> bytes:
        """The result as JSON, indented."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


class _Schema(Struct):
    schema: int


def read_result(data: bytes, name: str = "result") -> RunResult:
    """A result from its JSON.

    Raises:
        ArtifactError: it is malformed, or of another schema.
    """
    try:
        # Another schema may lack any field of this one, so it is told first.
        schema = msgspec.json.decode(data, type=_Schema).schema
        if schema != RESULT_SCHEMA:
            raise ArtifactError(f"{name}: field schema is {schema}, this version reads {RESULT_SCHEMA}; run it again")
        return msgspec.json.decode(data, type=RunResult)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ArtifactError(f"{name} is no result of a run: {error}; write it anew with --json") from error
