"""Queues by recursion on given arrivals and services: the external controls that the theory part regresses on.

Each takes instants of arrival and service times in order of arrival, and returns sojourns in that order.
"""

import heapq
from collections.abc import Sequence


def one_server(arrived: Sequence[float], services: Sequence[float]) -> list[float]:
    """Lindley's recursion."""
    free, found = 0.0, []
    for came, service in zip(arrived, services, strict=True):
        free = max(free, came) + service
        found.append(free - came)
    return found


def several_servers(arrived: Sequence[float], services: Sequence[float], servers: int) -> list[float]:
    """Kiefer and Wolfowitz: the first to come takes the first server that is free."""
    free = [0.0] * servers
    found = []
    for came, service in zip(arrived, services, strict=True):
        end = max(free[0], came) + service
        heapq.heapreplace(free, end)
        found.append(end - came)
    return found


def in_series(arrived: Sequence[float], services: Sequence[Sequence[float]]) -> list[float]:
    """One server after the other; a row of services per server."""
    at = list(arrived)
    for row in services:
        at = [came + took for came, took in zip(at, one_server(at, row), strict=True)]
    return [end - came for end, came in zip(at, arrived, strict=True)]


def bulk(arrived: Sequence[float], service: float, most: int) -> list[float]:
    """A server that takes all that wait, up to ``most``."""
    found: list[float] = []
    free = 0.0
    at = 0
    while at < len(arrived):
        begin = max(free, arrived[at])
        free = begin + service
        until = at
        while until < len(arrived) and until - at < most and arrived[until] <= begin:
            until += 1
        found.extend(free - arrived[index] for index in range(at, until))
        at = until
    return found
