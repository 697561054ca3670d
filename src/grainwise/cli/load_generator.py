"""A load generator, free of coordinated omission: in an open loop a slow answer never delays the next request.

Users of a closed loop wait for theirs, as real ones do. Latency counts from the instant at which a request was due, not from
when it could be sent. A request that is sent late by the generator itself is counted, and the greatest lateness is part of the
report.
"""

import asyncio
import io
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import count

import aiohttp
import numpy as np
from msgspec import Struct

from grainwise.domain.time import SECOND, Instant, Micros
from grainwise.workloads.traffic import Arrival
from grainwise.workloads.users import UserPool

_LARGE_BYTES = 1 << 20
"""Above it a body is written in pieces, so that sending one request does not hold up the next."""


class Call(Struct, frozen=True):
    """One kind of request. ``is_right`` judges the body of a 200; ``None`` accepts any."""

    url: str
    body: bytes
    content_type: str
    is_right: Callable[[bytes], bool] | None = None


class Sample(Struct, frozen=True):
    """One request as the client saw it. ``status`` 0 is a connection that failed or a client time-out."""

    due: Instant
    sent: Instant
    done: Instant
    status: int
    is_right: bool
    detail: str = ""
    app: str = ""

    @property
    def latency_us(self) -> Micros:
        """From due to done."""
        return self.done - self.due


class LoadReport(Struct, frozen=True):
    """What became of the offered requests; milliseconds, requests per second. Attainment is over all offered requests.

    ``offered_per_s`` is over the time in which requests were due, ``goodput_per_s`` over ``seconds``, the time until the last
    answer. The quantiles are those of the answers with status 200.
    """

    offered: int
    answered: int
    right: int
    wrong: int
    status_counts: dict[str, int]
    seconds: float
    offered_per_s: float
    goodput_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    slo_ms: float | None
    attainment: float | None
    max_send_delay_ms: float
    first_error: str = ""


async def run_load(
    calls: Sequence[Call],
    arrivals: Iterable[Instant],
    *,
    timeout_s: float = 60.0,
    on_sample: Callable[[Sample], None] | None = None,
) -> list[Sample]:
    """Send ``calls`` in turn at the instants of ``arrivals`` (microseconds from now) and wait for every answer."""
    turns = count()

    def choose(arrival: Arrival) -> Call:
        return calls[next(turns) % len(calls)]

    offered = (Arrival(at, "") for at in arrivals)
    return await run_traffic(offered, choose, timeout_s=timeout_s, on_sample=on_sample)


async def run_traffic(
    arrivals: Iterable[Arrival],
    choose: Callable[[Arrival], Call],
    *,
    users: UserPool | None = None,
    seed: int = 1,
    timeout_s: float = 60.0,
    on_sample: Callable[[Sample], None] | None = None,
) -> list[Sample]:
    """Offer a traffic and wait for every answer.

    Args:
        arrivals: of the open streams, in order; microseconds from now.
        choose: what to post for an arrival.
        users: those of the closed streams.
        seed: of the users.
        timeout_s: when the client gives a request up.
        on_sample: told of each sample as it comes.

    Returns:
        One sample per request, in the order in which they were due.
    """
    samples: list[Sample] = []
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    origin = _now()

    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def ask(arrival: Arrival) -> None:
            sample = await _post(session, choose(arrival), arrival, origin)
            samples.append(sample)
            if on_sample is not None:
                on_sample(sample)

        async def live(pool: UserPool, first: Arrival) -> None:
            arrival: Arrival | None = first
            while arrival is not None:
                await _wait_until(origin + arrival.at)
                await ask(arrival)
                arrival = pool.next(arrival.user, _now() - origin)

        async with asyncio.TaskGroup() as group:
            if users is not None:
                for first in users.first(seed):
                    group.create_task(live(users, first))
            for arrival in arrivals:
                await _wait_until(origin + arrival.at)
                group.create_task(ask(arrival))
    return sorted(samples, key=lambda sample: sample.due)


async def _wait_until(instant: Instant) -> None:
    delay = instant - _now()
    if delay > 0:
        await asyncio.sleep(delay / SECOND)


async def _post(session: aiohttp.ClientSession, call: Call, arrival: Arrival, origin: Instant) -> Sample:
    sent = _now() - origin
    status, right, detail = 0, False, ""
    try:
        body_to_send = io.BytesIO(call.body) if len(call.body) > _LARGE_BYTES else call.body
        headers = {"Content-Type": call.content_type}
        async with session.post(call.url, data=body_to_send, headers=headers) as response:
            body = await response.read()
            status = response.status
            if status == 200:
                right = call.is_right is None or call.is_right(body)
            if not right:
                detail = body[:300].decode(errors="replace")
    except (aiohttp.ClientError, TimeoutError) as error:
        detail = f"{type(error).__name__}: {error}"
    return Sample(arrival.at, sent, _now() - origin, status, right, detail, arrival.app)


def summarise(samples: Sequence[Sample], slo_ms: float | None = None, seconds: float | None = None) -> LoadReport:
    """The report of a run, or of a part of one.

    Args:
        samples: in the order in which they were due.
        slo_ms: what attainment and goodput are counted against.
        seconds: for how long requests were offered; without it, until the last one was due.
    """
    latencies = np.array([sample.latency_us for sample in samples if sample.status == 200], dtype=np.float64) / 1000
    first_due = min((sample.due for sample in samples), default=0)
    until_due = max((sample.due for sample in samples), default=0) - first_due
    until_done = max((sample.done for sample in samples), default=0) - first_due
    offering = seconds or until_due / SECOND or until_done / SECOND or 1.0
    span = max(offering, until_done / SECOND)
    right = sum(sample.is_right for sample in samples)
    met = None
    if slo_ms is not None:
        met = sum(sample.is_right and sample.latency_us <= slo_ms * 1000 for sample in samples)
    counts = Counter(str(sample.status) if sample.status else "no answer" for sample in samples)
    first_error = next((sample.detail for sample in samples if not sample.is_right), "")
    quantiles = np.percentile(latencies, (50, 95, 99, 100)) if len(latencies) else np.zeros(4)
    return LoadReport(
        offered=len(samples),
        answered=sum(sample.status != 0 for sample in samples),
        right=right,
        wrong=sum(sample.status == 200 and not sample.is_right for sample in samples),
        status_counts=dict(sorted(counts.items())),
        seconds=round(span, 3),
        offered_per_s=round(len(samples) / offering, 3),
        goodput_per_s=round((met if met is not None else right) / span, 3),
        p50_ms=round(float(quantiles[0]), 3),
        p95_ms=round(float(quantiles[1]), 3),
        p99_ms=round(float(quantiles[2]), 3),
        max_ms=round(float(quantiles[3]), 3),
        slo_ms=slo_ms,
        attainment=None if met is None else round(met / max(1, len(samples)), 5),
        max_send_delay_ms=round(max((sample.sent - sample.due for sample in samples), default=0) / 1000, 3),
        first_error=first_error,
    )


def _now() -> Instant:
    return time.perf_counter_ns() // 1000
