"""Queues with a known answer: closed forms with their sources. Rates per microsecond, times in microseconds.

Gross, Shortle, Thompson, Harris, Fundamentals of Queueing Theory (4th ed., 2008), below FQT, has all but the last three.
"""

from collections.abc import Sequence
from math import exp, factorial, log

import numpy as np


def moments(table: Sequence[float]) -> tuple[float, float]:
    """The first two moments of equally likely values."""
    return sum(table) / len(table), sum(value * value for value in table) / len(table)


def mm1(rate: float, mean: float) -> float:
    """Mean sojourn of M/M/1: FQT, section 2.2.4."""
    return mean / (1 - rate * mean)


def mm1_quantile(rate: float, mean: float, level: float) -> float:
    """Quantile of the sojourn of M/M/1, which is exponential: FQT, section 2.2.5."""
    return -log(1 - level) * mm1(rate, mean)


def mmc(rate: float, mean: float, servers: int) -> float:
    """Mean sojourn of M/M/c by Erlang's second formula: FQT, section 2.3."""
    load = rate * mean
    tail = load**servers / factorial(servers) / (1 - load / servers)
    waits = tail / (sum(load**n / factorial(n) for n in range(servers)) + tail)
    return mean + waits * mean / (servers - load)


def mg1(rate: float, first: float, second: float) -> float:
    """Mean sojourn of M/G/1 by Pollaczek and Khinchine from two moments of the service: FQT, section 5.1.1."""
    return first + rate * second / (2 * (1 - rate * first))


def tandem(rate: float, means: Sequence[float]) -> float:
    """Mean sojourn of M/M/1 queues in series: Jackson, Networks of Waiting Lines, Operations Research 5 (1957)."""
    return sum(mm1(rate, mean) for mean in means)


def batch_arrivals_last(rate: float, size: int, first: float, second: float) -> float:
    """Mean sojourn of the last item of a batch in M^[k]/G/1: a batch is one customer of M/G/1. FQT, section 3.1 and 5.1.

    ``rate`` counts batches, the moments are those of one item's service.
    """
    return mg1(rate, size * first, size * (second - first * first) + (size * first) ** 2)


def batch_arrivals_mean(rate: float, size: int, first: float, second: float) -> float:
    """Mean sojourn of an item of M^[k]/G/1: it waits as its batch does, then for those before it in the batch."""
    return batch_arrivals_last(rate, size, first, second) - size * first + (size + 1) / 2 * first


def fork_join(rate: float, mean: float) -> float:
    """Mean response of two M/M/1 with common arrivals, joined: Flatto and Hahn (SIAM J. Appl. Math. 44, 1984).

    Written as (12 - rho) / 8 / (mu - lambda) by Nelson and Tantawi (IEEE Trans. Computers 37, 1988), equation 7.
    """
    return (12 - rate * mean) / 8 * mm1(rate, mean)


def bulk_service(rate: float, service: float, most: int) -> float:
    """Mean sojourn of M/D^[1,K]/1: a free server takes all that wait, up to K, and is busy equally long for any number.

    Bailey (J. Royal Stat. Soc. B 16, 1954) and Neuts, A General Class of Bulk Queues with Poisson Input (Ann. Math. Stat. 38,
    1967), rule (1, K): the number that a departing batch leaves behind is a Markov chain, n' = max(n - K, 0) + arrivals in one
    service. Its stationary law is computed by iteration; the mean number over a cycle and Little's law give the sojourn.
    """
    states = 400 * most
    offered = rate * service
    arrivals = [exp(-offered)]
    while len(arrivals) < 60 + 20 * most:
        arrivals.append(arrivals[-1] * offered / len(arrivals))
    kernel = np.array(arrivals)
    law = np.zeros(states)
    law[0] = 1.0
    for _ in range(100_000):
        left = np.concatenate(([law[: most + 1].sum()], law[most + 1 :]))
        fresh = np.convolve(left, kernel)[:states]
        fresh /= fresh.sum()
        change = float(np.abs(fresh - law).sum())
        law = fresh
        if change < 1e-13:
            break
    cycle = service + law[0] / rate
    present = np.maximum(np.arange(states), 1) * service + rate * service * service / 2
    return float(law @ present) / cycle / rate
