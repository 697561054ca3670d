"""Waiting in front of servers, in closed form, for a run of finite length.

The probability of waiting is Erlang's C formula (A. K. Erlang, 1917). The mean wait with general arrivals and service is the
correction of Allen and Cunneen to the M/M/c queue (A. O. Allen, *Probability, Statistics, and Queueing Theory*, 1990), which
is Kingman's heavy-traffic formula (J. F. C. Kingman, 1961) for one server. Where larger batches carry more, the part of
arrivals in it shrinks: they pile up only when more come than the next batch takes. Who waits at all waits for a server to
come free and, with some probability, for others before it; the latter is taken as exponential, as it is for M/M/c. A run of
a finite time cannot build the wait of a stationary queue near or above saturation; there the mean of reflected Brownian
motion with drift bounds it (J. M. Harrison, *Brownian Motion and Stochastic Flow Systems*, 1985).
"""

import math
from functools import lru_cache

import msgspec
from msgspec import Struct

RUN_US = 60_000_000.0
"""Length of the run for which capacity and attainment are defined, in microseconds."""


class Waiting(Struct, frozen=True):
    """The wait of an invocation: 0 with probability ``1 - probability``; over all, ``mean_us``.

    Who waits, waits ``residual_us`` on average until a server comes free (evenly spread where services are ``evenness`` = 1 all
    alike, exponential where it is 0), then perhaps for others, then ``shared_us`` longer since the batch will be larger.
    In an overloaded queue everyone waits, and the wait grows evenly over the run: ``is_growing``.
    """

    probability: float
    mean_us: float
    is_growing: bool = False
    residual_us: float = 0.0
    evenness: float = 0.0
    shared_us: float = 0.0

    def with_shared(self, shared_us: float) -> "Waiting":
        """The same wait, ``shared_us`` longer for who waits."""
        if self.probability <= 0 or self.is_growing:
            return self
        return msgspec.structs.replace(self, mean_us=self.mean_us + self.probability * shared_us, shared_us=shared_us)

    def quantile_us(self, level: float) -> float:
        """The wait that a fraction ``level`` of invocations does not exceed, if it is exponential."""
        if self.mean_us <= 0 or self.probability <= 0:
            return 0.0
        if self.is_growing:
            return 2 * self.mean_us * level
        if level <= 1 - self.probability:
            return 0.0
        if level >= 1:
            return math.inf
        return self.mean_us / self.probability * math.log(self.probability / (1 - level))


NO_WAIT = Waiting(0.0, 0.0)


@lru_cache(1 << 16)
def erlang_c(servers: int, offered: float) -> float:
    """The probability that an arrival finds all ``servers`` busy, for ``offered`` servers' worth of work; 1 at saturation."""
    if offered <= 0:
        return 0.0
    if offered >= servers:
        return 1.0
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def waiting(
    *,
    servers: int,
    service_us: float,
    busy_fraction: float,
    saturation_fraction: float,
    arrival_scv: float,
    service_scv: float,
    speedup: float = 1.0,
    run_us: float = RUN_US,
) -> Waiting:
    """The wait in front of ``servers`` equal servers, each of which takes a batch at a time.

    Args:
        servers: how many invocations can run at once.
        service_us: mean time of one invocation.
        busy_fraction: the mean fraction of servers in use with the batches that form at this load.
        saturation_fraction: the load relative to the most that full batches could carry; equal to ``busy_fraction`` where
            batches are of one, in which case this is the Allen-Cunneen formula.
        arrival_scv: squared coefficient of variation of the times between arrivals.
        service_scv: squared coefficient of variation of ``service_us``.
        speedup: how many times as much work full batches carry as the smallest; 1 where batching gains nothing.
        run_us: length of the run.
    """
    if service_us <= 0 or saturation_fraction <= 0:
        return NO_WAIT
    spread = (arrival_scv + service_scv) / 2
    drift_us = max(0.0, saturation_fraction - 1) * run_us / 2
    built_up_us = math.sqrt(2 * spread * service_us / servers * run_us / math.pi) + drift_us
    if saturation_fraction >= 1:
        return Waiting(1.0, built_up_us, is_growing=True)
    probability = erlang_c(servers, min(busy_fraction, 1.0) * servers)
    beyond = arrival_scv / 2 / (1 - saturation_fraction**speedup) + service_scv / 2 / (1 - saturation_fraction)
    stationary_us = probability * beyond * service_us / servers
    residual_us = spread * service_us / servers
    return Waiting(probability, min(stationary_us, built_up_us), residual_us=residual_us, evenness=max(0.0, 1 - service_scv))
