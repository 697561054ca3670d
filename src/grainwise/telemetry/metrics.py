"""Names of the metrics, and their exposition for Prometheus.

Everything is read when it is scraped: the hot path only adds to the sums of ``telemetry.recorder``.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from grainwise.control.status import AppStatus
from grainwise.domain.time import SECOND, Instant
from grainwise.telemetry.http import HttpCounters
from grainwise.telemetry.recorder import COLD_PARTS, AppSums, Histogram, Recorder

REQUESTS = "grainwise_requests"
SLO_MET = "grainwise_requests_within_slo"
REQUEST_SECONDS = "grainwise_request_seconds"
IN_FLIGHT = "grainwise_requests_in_flight"
QUEUE_ITEMS = "grainwise_queue_items"
INSTANCES = "grainwise_instances"
INSTANCE_FAILURES = "grainwise_instance_failures"
INVOCATIONS = "grainwise_invocations"
INVOCATION_BUSY_SECONDS = "grainwise_invocation_busy_seconds"
INVOCATION_ITEMS = "grainwise_invocation_items"
STAGE_CALLS = "grainwise_stage_calls"
STAGE_ITEMS = "grainwise_stage_items"
STAGE_SECONDS = "grainwise_stage_seconds"
STAGE_ERRORS = "grainwise_stage_errors"
STAGE_PREDICTION_RATIO = "grainwise_stage_prediction_ratio"
STAGE_PREDICTION_ERROR = "grainwise_stage_prediction_error"
PROFILE_STALE = "grainwise_profile_stale"
COLD_STARTS = "grainwise_cold_starts"
COLD_START_SECONDS = "grainwise_cold_start_seconds"
STAGE_LOADS = "grainwise_stage_loads"
PLAN_REQUESTS = "grainwise_plan_requests"
PLANS = "grainwise_plans"
REGRANULATIONS = "grainwise_regranulations"
COST_USD = "grainwise_cost_usd"
PAYLOAD_BYTES = "grainwise_payload_bytes"
HTTP_RESPONSES = "grainwise_http_responses"
HTTP_RECEIVED_BYTES = "grainwise_http_received_bytes"
HTTP_SENT_BYTES = "grainwise_http_sent_bytes"

StatusSource = Callable[[str], AppStatus]


class Metrics(Collector):
    """The metrics of one server, with a registry of their own.

    Args:
        recorder: the sums over events and actions.
        http: the sums over HTTP responses.
        status: where queues and re-granulations are read, by app.
        payload_bytes: bytes behind live handles.
        clock: now, in the recorder's microseconds; the last event's instant without it.
    """

    def __init__(
        self,
        recorder: Recorder,
        http: HttpCounters | None = None,
        *,
        status: StatusSource | None = None,
        payload_bytes: Callable[[], int] | None = None,
        clock: Callable[[], Instant] | None = None,
    ) -> None:
        self._recorder = recorder
        self._http = http
        self._status = status
        self._payload_bytes = payload_bytes
        self._clock = clock
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def expose(self) -> tuple[str, bytes]:
        """Content type and text of the exposition."""
        return CONTENT_TYPE_LATEST, generate_latest(self.registry)

    def collect(self) -> Iterable[Metric]:
        """The metric families; called by the registry."""
        apps = self._recorder.apps
        yield from _requests(apps)
        yield from _invocations(apps)
        yield from _predictions(apps)
        yield from self._instances(apps)
        yield from self._plans(apps)
        yield from self._costs(apps)
        if self._payload_bytes is not None:
            yield GaugeMetricFamily(PAYLOAD_BYTES, "Bytes of payloads that a request still needs", self._payload_bytes())
        if self._http is not None:
            yield from _http(self._http)

    def _instances(self, apps: dict[str, AppSums]) -> Iterator[Metric]:
        now = GaugeMetricFamily(
            INSTANCES, "Instances by state and by the stages they hold", labels=["app", "state", "residency"]
        )
        names = {id(sums): name for name, sums in apps.items()}
        counts: dict[tuple[str, str, str], int] = {}
        for record in self._recorder.instances.values():
            key = (names[id(record.app)], record.state, "+".join(record.app.graph.names(record.stages)))
            counts[key] = counts.get(key, 0) + 1
        for labels, count in counts.items():
            now.add_metric(labels, count)
        yield now
        failures = CounterMetricFamily(INSTANCE_FAILURES, "Instances that failed, by cause", labels=["app", "cause"])
        starts = CounterMetricFamily(COLD_STARTS, "Instances that became ready", labels=["app"])
        seconds = CounterMetricFamily(COLD_START_SECONDS, "Time of cold starts, by part", labels=["app", "part"])
        loads = CounterMetricFamily(STAGE_LOADS, "Times that stages were loaded into a running instance", labels=["app"])
        for name, sums in apps.items():
            for cause, count in sums.failures.items():
                failures.add_metric((name, cause), count)
            starts.add_metric((name,), sums.cold_starts)
            loads.add_metric((name,), sums.loads)
            for part, micros in zip(COLD_PARTS, sums.cold_us, strict=True):
                seconds.add_metric((name, part), micros / SECOND)
        yield from (failures, starts, seconds, loads)

    def _plans(self, apps: dict[str, AppSums]) -> Iterator[Metric]:
        requests = CounterMetricFamily(PLAN_REQUESTS, "Plans that someone asked for", labels=["app"])
        plans = CounterMetricFamily(PLANS, "Answers of the planner, by result", labels=["app", "result"])
        for name, sums in apps.items():
            requests.add_metric((name,), sums.plan_requests)
            for result, count in sums.plans.items():
                plans.add_metric((name, result), count)
        yield from (requests, plans)
        if self._status is None:
            return
        changes = CounterMetricFamily(REGRANULATIONS, "Changes of the granularity that were carried through", labels=["app"])
        queues = GaugeMetricFamily(QUEUE_ITEMS, "Items that wait, by function", labels=["app", "function"])
        for name in apps:
            status = self._status(name)
            changes.add_metric((name,), status.regranulations)
            for queue in status.queues:
                queues.add_metric((name, "+".join(queue.stages)), queue.items)
        yield from (changes, queues)

    def _costs(self, apps: dict[str, AppSums]) -> Iterator[Metric]:
        now = self._recorder.last if self._clock is None else self._clock()
        costs = CounterMetricFamily(
            COST_USD, "Cost at the prices of the catalogue, by what is charged", labels=["app", "basis"]
        )
        for name, sums in apps.items():
            costs.add_metric((name, "provisioned"), self._recorder.provisioned_usd(sums, now))
            costs.add_metric((name, "billed"), sums.billed_usd)
        yield costs


def _requests(apps: dict[str, AppSums]) -> Iterator[Metric]:
    outcomes = CounterMetricFamily(REQUESTS, "Requests that ended, by outcome", labels=["app", "outcome"])
    within = CounterMetricFamily(SLO_MET, "Requests answered within the SLO's latency", labels=["app"])
    flight = GaugeMetricFamily(IN_FLIGHT, "Requests accepted and not yet answered", labels=["app"])
    latency = HistogramMetricFamily(REQUEST_SECONDS, "From arrival to answer, of answered requests", labels=["app"])
    for name, sums in apps.items():
        for outcome, count in sums.outcomes.items():
            outcomes.add_metric((name, outcome), count)
        within.add_metric((name,), sums.met_slo)
        flight.add_metric((name,), sums.in_flight)
        _add(latency, (name,), sums.latency, SECOND)
    yield from (outcomes, within, flight, latency)


def _invocations(apps: dict[str, AppSums]) -> Iterator[Metric]:
    invocations = CounterMetricFamily(INVOCATIONS, "Invocations, by extent", labels=["app", "extent"])
    busy = CounterMetricFamily(INVOCATION_BUSY_SECONDS, "From invoke to result, by extent", labels=["app", "extent"])
    items = HistogramMetricFamily(INVOCATION_ITEMS, "Items of an invocation", labels=["app"])
    calls = CounterMetricFamily(STAGE_CALLS, "Calls of a stage", labels=["app", "stage"])
    stage_items = CounterMetricFamily(STAGE_ITEMS, "Items that a stage was called with", labels=["app", "stage"])
    seconds = CounterMetricFamily(STAGE_SECONDS, "Time in a stage, measured on the instance", labels=["app", "stage"])
    errors = CounterMetricFamily(STAGE_ERRORS, "Calls of a stage that raised", labels=["app", "stage"])
    for name, sums in apps.items():
        for extent, of_extent in sums.extents.items():
            invocations.add_metric((name, extent), of_extent.count)
            busy.add_metric((name, extent), of_extent.busy_us / SECOND)
        _add(items, (name,), sums.items, 1)
        for node, of_stage in zip(sums.graph.stages, sums.stages, strict=True):
            labels = (name, node.name)
            calls.add_metric(labels, of_stage.calls)
            stage_items.add_metric(labels, of_stage.items)
            seconds.add_metric(labels, of_stage.duration_us / SECOND)
            errors.add_metric(labels, of_stage.raised)
    yield from (invocations, busy, items, calls, stage_items, seconds, errors)


def _predictions(apps: dict[str, AppSums]) -> Iterator[Metric]:
    ratios = GaugeMetricFamily(
        STAGE_PREDICTION_RATIO, "Measured over predicted time of a stage, median of its latest calls", labels=["app", "stage"]
    )
    errors = GaugeMetricFamily(
        STAGE_PREDICTION_ERROR, "Relative error of a stage's prediction, mean of its latest calls", labels=["app", "stage"]
    )
    stale = GaugeMetricFamily(PROFILE_STALE, "1 where the latest calls of a stage contradict the profile", labels=["app"])
    for name, sums in apps.items():
        described = sums.stage_accuracy()
        for each in described:
            if each.ratio is not None and each.error is not None:
                ratios.add_metric((name, each.stage), each.ratio)
                errors.add_metric((name, each.stage), each.error)
        stale.add_metric((name,), float(any(each.is_stale for each in described)))
    yield from (ratios, errors, stale)


def _http(http: HttpCounters) -> Iterator[Metric]:
    responses = CounterMetricFamily(HTTP_RESPONSES, "HTTP responses, by route and status", labels=["route", "status"])
    for (route, status), count in http.responses.items():
        responses.add_metric((route, str(status)), count)
    received = CounterMetricFamily(HTTP_RECEIVED_BYTES, "Bytes of request bodies of answered calls", http.received_bytes)
    yield from (responses, received, CounterMetricFamily(HTTP_SENT_BYTES, "Bytes of their answers", http.sent_bytes))


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram, unit: int) -> None:
    """Add a histogram in the cumulative form of Prometheus."""
    cumulative = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*histogram.bounds, None), histogram.counts, strict=True):
        cumulative += count
        buckets.append(("+Inf" if bound is None else repr(bound / unit), cumulative))
    family.add_metric(labels, buckets, histogram.total / unit)
