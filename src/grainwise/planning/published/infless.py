"""A plan after INFless: of each function by itself the configuration that serves most requests for the money (reconstructed).

INFless (ASPLOS 2022) is built around batches: it gives the instances of a function a batch, CPUs and a part of a GPU, greedily
those with the best throughput for their resources of which a batch fills and runs within the SLO of the function. That is
published. How it weighs a CPU against a GPU is not known here: the catalogue's prices do, memory included. What we remember,
unverified, is that it takes run times for a tenth longer than predicted, and that instances of one function differ, so that
the last one is no larger than what is left of the rate; a plan has one configuration for a function, so they do not here.
"""

from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.published import in_turn
from grainwise.planning.published.function_by_function import Configuration, Function, System

MARGIN = 1.1
"""By so much longer than predicted it takes a run to be (recalled)."""


def preference(problem: Problem, function: Function, configuration: Configuration) -> tuple[float, ...]:
    """What an item costs with full batches; of equals the cheaper instance, then the larger batch."""
    return configuration.usd_per_s / configuration.items_per_s, configuration.usd_per_s, -configuration.batch


INFLESS = System(
    name="INFless (ASPLOS 2022)",
    looks_for="the batch, cores and share of a device that serve most items for the money and fit its part of the SLO",
    preference=preference,
    is_batching=True,
    margin=MARGIN,
)


def configure(problem: Problem) -> PlanTable:
    """Answer a planning problem after INFless, with as many instances as the rate needs at full throughput.

    Raises:
        InfeasibleError: no plan fits the nodes, see ``in_turn.configure``.
        ConfigurationError: the problem holds a value outside its range.
    """
    return in_turn.configure(problem, INFLESS)


def configure_as_ours(problem: Problem) -> PlanTable:
    """The same configurations with as many instances as ours would get.

    Raises:
        InfeasibleError: no plan fits the nodes, see ``in_turn.configure``.
        ConfigurationError: the problem holds a value outside its range.
    """
    return in_turn.configure(problem, INFLESS, as_ours=True)
