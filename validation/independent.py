"""A network of three stages with 2, 1 and 3 servers against SimPy and ciw, both from PyPI.

SimPy is given the very arrivals and service times of our run: then each request must take as long in both, to the microsecond.
ciw is given the same gaps and draws services from distributions of its own (Python's Mersenne Twister, gammavariate,
lognormvariate): quantiles over seeds must agree within 3 %. Both know servers and the order of a queue, nothing of the product.

Where several servers work side by side requests overtake each other, and the product's usual order, earliest due first, is then
no longer that of arrival at a stage. ciw serves in order of arrival at a stage, so it is compared with the policy set ``fifo``;
SimPy is compared with both orders.
"""

from collections.abc import Generator, Sequence
from itertools import islice, pairwise
from math import log, sqrt

import ciw
import msgspec
import simpy
from msgspec import Struct

from grainwise.domain.rng import Rng
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.service import RESIDUALS
from grainwise.workloads.quantiles import Quantiles, gamma, lognormal
from validation.measuring import Check, Part, run_jobs
from validation.queues import EXPONENTIAL, chain
from validation.worlds import Ledger, app_with, poisson, queueing_app, run_through

SERVERS = (2, 1, 3)
MEANS_MS = (12.0, 5.0, 21.0)
RATE_PER_S = 100.0
GAMMA_SHAPE = 2.0
LOGNORMAL_CV = 0.8
RUNS = 24
REQUESTS = 12_000
WARM_UP = 1000
BY_DUE_RUNS = 4
LEVELS = (0.5, 0.95, 0.99)
BOUND = 0.03
_MS = 1000.0


class _Even(Struct):
    """Not random: one number after another, so that a distribution becomes a table of its mid-point quantiles."""

    at: int

    def below(self, bound: int) -> int:
        return bound * (2 * self.at + 1) // (2 * RESIDUALS)


def table(distribution: Quantiles) -> tuple[float, ...]:
    """Mid-point quantiles of a distribution with mean 1."""
    rngs: list[Rng] = [_Even(at) for at in range(RESIDUALS)]
    values = [distribution.draw(rng) for rng in rngs]
    mean = sum(values) / len(values)
    return tuple(value / mean for value in values)


def network(policies: str) -> SimulatedApp:
    """Three stages, each a function of its own: gamma, exponential and lognormal service."""
    tables = (table(gamma(GAMMA_SHAPE)), EXPONENTIAL, table(lognormal(LOGNORMAL_CV)))
    app = queueing_app(app_with("network", chain(3, max_batch=1)), [ms * _MS for ms in MEANS_MS], tables, instances=SERVERS)
    return app.with_plan(app.plan, msgspec.structs.replace(app.config, policies=policies))


def _simpy(arrived: list[int], services: list[list[tuple[int, int]]], *, is_by_due: bool) -> list[int]:
    """Sojourns of the same requests in SimPy; by due time, which is the order of arrival at the first stage, or at each."""
    env = simpy.Environment()
    stages = [simpy.PriorityResource(env, servers) for servers in SERVERS]
    ended = [0] * len(arrived)

    def request(number: int) -> Generator[simpy.Event, None, None]:
        for stage, took in services[number]:
            with stages[stage].request(priority=number if is_by_due else 0) as turn:
                yield turn
                yield env.timeout(took)
        ended[number] = env.now

    def source() -> Generator[simpy.Event, None, None]:
        for number, came in enumerate(arrived):
            yield env.timeout(came - env.now)
            env.process(request(number))

    env.process(source())
    env.run()
    return [end - came for end, came in zip(ended, arrived, strict=True)]


def _ciw(seed: int, arrived: Sequence[int]) -> list[float]:
    """Sojourns in µs in ciw, from services of its own, in order of arrival."""
    gaps = [(later - earlier) / _MS for earlier, later in pairwise((2 * arrived[0] - arrived[1], *arrived))]
    sigma = sqrt(log(1 + LOGNORMAL_CV**2))
    services = [
        ciw.dists.Gamma(GAMMA_SHAPE, MEANS_MS[0] / GAMMA_SHAPE),
        ciw.dists.Exponential(1 / MEANS_MS[1]),
        ciw.dists.Lognormal(log(MEANS_MS[2]) - sigma * sigma / 2, sigma),
    ]
    described = ciw.create_network(
        arrival_distributions=[ciw.dists.Sequential([*gaps, float("inf")]), None, None],
        service_distributions=services,
        routing=[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]],
        number_of_servers=list(SERVERS),
    )
    ciw.seed(seed)
    simulation = ciw.Simulation(described)
    simulation.simulate_until_max_customers(len(arrived), method="Finish")
    came: dict[int, float] = {}
    left: dict[int, float] = {}
    for record in simulation.get_all_records():
        if record.node == 1:
            came[record.id_number] = record.arrival_date
        if record.node == len(SERVERS):
            left[record.id_number] = record.exit_date
    return [(left[number] - came[number]) * _MS for number in sorted(left, key=lambda each: came[each])]


def _quantiles(sojourns: Sequence[float]) -> list[float]:
    kept = sorted(sojourns[WARM_UP : WARM_UP + REQUESTS])
    return [kept[int(level * len(kept))] for level in LEVELS]


def _ours(policies: str, seed: int) -> Ledger:
    app = network(policies)
    total = WARM_UP + REQUESTS
    arrivals = list(islice(poisson(app.spec.name, RATE_PER_S, total, seed), total))
    return run_through(app, arrivals, seed)


def compare(seed: int) -> tuple[list[float], list[float], int, int]:
    """One seed: our quantiles and ciw's in µs, requests compared with SimPy and those among them that differ."""
    compared = differing = 0
    quantiles: list[float] = []
    other_quantiles: list[float] = []
    for policies in ("fifo", "adaptive") if seed <= BY_DUE_RUNS else ("fifo",):
        ledger = _ours(policies, seed)
        ours = ledger.sojourns()
        theirs = _simpy(ledger.arrived, ledger.services, is_by_due=policies == "adaptive")
        if policies == "fifo":
            quantiles, other_quantiles = _quantiles(ours), _quantiles(_ciw(seed, ledger.arrived))
        compared += len(ours)
        differing += sum(one != other for one, other in zip(ours, theirs, strict=True))
    return quantiles, other_quantiles, compared, differing


def validate(runs: int = RUNS) -> Part:
    """All seeds."""
    loads = ", ".join(f"{RATE_PER_S * ms / 1000 / servers:.2f}" for ms, servers in zip(MEANS_MS, SERVERS, strict=True))
    part = Part(
        "independent",
        f"three stages with {SERVERS[0]}, {SERVERS[1]} and {SERVERS[2]} servers at utilisation {loads}; "
        f"{runs} seeds of {REQUESTS} requests after {WARM_UP}, times in ms",
        ("quantile", "grainwise", f"ciw {ciw.__version__}", "difference"),
    )
    found, part.cpu_s = run_jobs(compare, range(1, runs + 1))
    for at, level in enumerate(LEVELS):
        ours = sum(row[0][at] for row in found) / runs
        theirs = sum(row[1][at] for row in found) / runs
        part.rows.append((f"p{level * 100:g}", f"{ours / _MS:.2f}", f"{theirs / _MS:.2f}", f"{ours / theirs - 1:+.2%}"))
        part.checks.append(
            Check(
                f"p{level * 100:g} against ciw", f"{ours / theirs - 1:+.2%}", f"+- {BOUND:.0%}", abs(ours / theirs - 1) <= BOUND
            )
        )
    compared, differing = sum(row[2] for row in found), sum(row[3] for row in found)
    what = f"of {compared} requests those whose sojourn differs from SimPy's ({simpy.__version__}) by a microsecond or more"
    part.checks.append(Check(what, str(differing), "0", differing == 0))
    return part
