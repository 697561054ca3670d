"""``grainwise plan``: every granularity with its best plan, the frontier of cost and attainment, which one wins, and why."""

from pathlib import Path

import msgspec
from msgspec import Struct

from grainwise.cli.commands import print_json, read_spec
from grainwise.cli.options import check_folder_of, check_positive, read_grain
from grainwise.cli.problems import Machines, problem_of, refuse_untrained
from grainwise.cli.profiles import find_shipped
from grainwise.cli.render import console, render_plan, render_table, stage_letters
from grainwise.domain.app import AppSpec, Slo
from grainwise.domain.config import AppConfig
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.machine import NOMINAL_PRICES
from grainwise.domain.plan import Objective, render_grain
from grainwise.planning.problem import PlanTable, Problem
from grainwise.policies.sets import policy_set
from grainwise.predictors.evaluator import EvaluatorName
from grainwise.profiles.artifact import Profile, check
from grainwise.reports.frontier import CAPACITY_TARGET, Frontier, frontier
from grainwise.reports.stairs import Stairs, stairs_of
from grainwise.runtimes.local.machine import this_node
from grainwise.runtimes.local.runtime import ARENA_MIB
from grainwise.runtimes.local.shares import Mechanism, capabilities
from grainwise.simulation.planners import plan


class PlanOptions(Struct, frozen=True):
    """What ``grainwise plan`` was told."""

    app: Path
    rate_per_s: float = 1.0
    slo_ms: float | None = None
    grain: str | None = None
    objective: Objective = "provisioned"
    cores: float | None = None
    profile: Path | None = None
    evaluator: EvaluatorName = "analytic"
    policies: str = "adaptive"
    html: Path | None = None

    def __post_init__(self) -> None:
        for option, value in (("--rate", self.rate_per_s), ("--slo-ms", self.slo_ms), ("--cores", self.cores)):
            check_positive(option, value)
        check_folder_of("--html", self.html)
        policy_set(self.policies)


class PlanOutput(Struct, frozen=True):
    """What ``grainwise plan --json`` prints. ``device_class`` is where the profile was measured."""

    rate_per_s: float
    slo: Slo
    device_class: str
    chosen: str
    table: PlanTable
    frontier: Frontier | None = None
    stairs: tuple[Stairs, ...] = ()


class Planned(Struct, frozen=True):
    """A plan table with all that it rests on."""

    spec: AppSpec
    measured: Profile
    problem: Problem
    table: PlanTable

    @property
    def output(self) -> PlanOutput:
        """As JSON shows it, without frontier and staircases."""
        return PlanOutput(
            self.problem.workload.rate_per_s,
            self.spec.slo,
            self.measured.device_class,
            render_grain(self.table.winner.plan.grain),
            self.table,
        )


def make_plan(options: PlanOptions) -> Planned:
    """Plan an app for this machine, or for one with ``cores``, from its profile.

    Raises:
        GrainwiseError: the app, its profile, its evaluator or an option cannot be used.
    """
    spec = read_spec(options.app)
    measured = find_shipped(options.app, options.profile)
    check(measured, spec=spec, device_class=None)
    if options.slo_ms is not None:
        spec = msgspec.structs.replace(spec, slo=Slo(options.slo_ms, spec.slo.target))
    node = this_node()
    if options.cores is not None:
        node = msgspec.structs.replace(node, cpu_cores=options.cores)
    mechanism = msgspec.convert(measured.share_mechanism, Mechanism)
    problem = problem_of(
        spec,
        measured,
        Machines((node,), capabilities(mechanism, ARENA_MIB << 20)),
        rate_per_s=options.rate_per_s,
        objective=options.objective,
        grain=read_grain(spec, options.grain),
        config=AppConfig(policies=options.policies, evaluator=options.evaluator),
    )
    refuse_untrained(problem)
    return Planned(spec, measured, problem, plan(problem))


def plan_app(options: PlanOptions, as_json: bool) -> None:
    """The command.

    Raises:
        GrainwiseError: see ``make_plan``; plotly is missing for ``--html``, or the file cannot be written.
    """
    if options.html is not None:
        from grainwise.reports.figures import load_plotly

        load_plotly()
    planned = make_plan(options)
    found = frontier(planned.problem, planned.table)
    stairs = stairs_of(planned.problem, planned.table.winner.plan)
    if options.html is not None:
        _write_page(options.html, planned, found, stairs)
    if as_json:
        print_json(msgspec.structs.replace(planned.output, frontier=found, stairs=stairs))
        return
    print_table(planned)
    _print_frontier(planned, found, stairs)
    if options.html is not None:
        console(is_error=True).print(f"page: {options.html}")


def print_table(planned: Planned) -> None:
    """The plan table with the winner, why it won, and on what the figures rest."""
    shown, table = console(), planned.table
    stages = tuple(planned.spec.graph.index_by_name)
    shown.print(render_table(table, planned.problem.workload.rate_per_s, planned.spec.slo, stages))
    shown.print(_chosen(table))
    shown.print(render_plan(table.winner.plan))
    for line in _reasons(planned):
        shown.print(line)


def _chosen(table: PlanTable) -> str:
    return ("chosen: " if table.is_feasible else "nothing meets the SLO; nearest: ") + render_grain(table.winner.plan.grain)


def _reasons(planned: Planned) -> list[str]:
    table, measured = planned.table, planned.measured
    error = table.winner.predicted.error_fraction
    return [
        f"why: {table.because}",
        *([table.nearest] if table.nearest else []),
        f"measured on {measured.device_class}, held-out error of latency {error:.0%}; prices: {NOMINAL_PRICES.source}",
    ]


def _print_frontier(planned: Planned, found: Frontier, stairs: tuple[Stairs, ...]) -> None:
    from grainwise.reports.plan_text import capacities, frontier_table, handed_on, picture, stair_lines

    shown = console()
    letters = stage_letters(tuple(planned.spec.graph.index_by_name))
    shown.print()
    shown.print(frontier_table(found, letters))
    if found.bound_usd_per_hour > 0:
        shown.print(
            f"bound: no plan that meets the SLO by additive times costs less than ${found.bound_usd_per_hour:.4f}/h "
            f"(by {found.objective} cost)"
        )
    if found.is_judged and handed_on(found):
        shown.print(f"* handed on to analytic: {handed_on(found)}")
    shown.print(f"\nattainment over cost{f', by {found.evaluator}' if found.is_judged else ''} (┊ the bound):")
    for line in picture(found):
        shown.print(line, highlight=False, soft_wrap=True)
    shown.print(f"\ncapacity, requests/s at {CAPACITY_TARGET:.0%} attainment (predicted):")
    for line in capacities(found, letters):
        shown.print(line, highlight=False, soft_wrap=True)
    lines = stair_lines(stairs, letters)
    if lines:
        shown.print("\nwhat dispatch runs first of the chosen plan, by the time that a request has left:")
        for line in lines:
            shown.print(line, highlight=False, soft_wrap=True)


def _write_page(path: Path, planned: Planned, found: Frontier, stairs: tuple[Stairs, ...]) -> None:
    from grainwise.reports.plan_page import plan_page

    slo, rate = planned.spec.slo, planned.problem.workload.rate_per_s
    said = [
        f"{rate:g} requests/s, SLO {slo.latency_ms:g} ms for {slo.target:.1%}, judged by {found.evaluator}",
        _chosen(planned.table),
        *render_plan(planned.table.winner.plan).splitlines(),
        *_reasons(planned),
    ]
    text = plan_page(found, stairs, slo.latency_ms, said, stage_letters(tuple(planned.spec.graph.index_by_name)))
    try:
        path.write_text(text)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
