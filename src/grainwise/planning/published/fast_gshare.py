"""A plan after FaST-GShare: of each function by itself the share that serves most requests per unit of it (reconstructed).

FaST-GShare (ICPP 2023) gives an instance a rectangle of a GPU, a part of its multiprocessors for a part of the time, and
chooses the rectangle by requests per second for its size, as profiled. That is published. A device share is one number here, so
the part of the time is always all of it. A function without a GPU is treated alike, with its cores as the share, since those
are a quota. It forms no batches. That only configurations within the SLO count is our own reading, as is the choice of the
cores beside a GPU, of which it has none: the fewest, from one on, with which some share is in time.
"""

from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.published import in_turn
from grainwise.planning.published.function_by_function import Configuration, Function, System


def preference(problem: Problem, function: Function, configuration: Configuration) -> tuple[float, ...]:
    """How much of the share a request takes a second of; of equals the smaller share. On a device the cores come first."""
    cores, gpu = configuration.cpu_cores, configuration.gpu_share_fraction
    if gpu > 0:
        return float(cores < 1), abs(cores - 1), gpu / configuration.items_per_s, gpu
    return cores / configuration.items_per_s, cores


FAST_GSHARE = System(
    name="FaST-GShare (ICPP 2023)",
    looks_for="the share that serves most requests per unit of it and fits its part of the SLO",
    preference=preference,
    is_batching=False,
)


def configure(problem: Problem) -> PlanTable:
    """Answer a planning problem after FaST-GShare, with as many instances as the rate needs at full throughput.

    Raises:
        InfeasibleError: no plan fits the nodes, see ``in_turn.configure``.
        ConfigurationError: the problem holds a value outside its range.
    """
    return in_turn.configure(problem, FAST_GSHARE)


def configure_as_ours(problem: Problem) -> PlanTable:
    """The same shares with as many instances as ours would get.

    Raises:
        InfeasibleError: no plan fits the nodes, see ``in_turn.configure``.
        ConfigurationError: the problem holds a value outside its range.
    """
    return in_turn.configure(problem, FAST_GSHARE, as_ours=True)
