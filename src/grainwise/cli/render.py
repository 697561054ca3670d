"""What the commands print for people: tables of plans, stages and load."""

import string
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from grainwise.cli.load_generator import LoadReport
from grainwise.domain.app import AppSpec, Slo
from grainwise.domain.graph import Element, Gathered, Graph, Input, Merged, Source
from grainwise.domain.plan import FunctionPlan, Grain, Plan, render_grain
from grainwise.planning.problem import PlanTable


def console(*, is_error: bool = False) -> Console:
    """Standard output or error, which takes text as it is: an annotation such as ``list[str]`` is no markup.

    Wide enough that piped tables keep their columns.
    """
    shown = Console(stderr=is_error, markup=False)
    return shown if shown.is_terminal else Console(stderr=is_error, markup=False, width=120)


def render_function(function: FunctionPlan) -> str:
    """A function as one line: ``detect+crop 1 core, batch 4, 2 instances``; one on a device with its share of it."""
    plural = "" if function.instances == 1 else "s"
    part = f"{function.device_fraction:.2f} of a GPU, " if function.device_fraction else ""
    return (
        f"{'+'.join(function.stages)}: {function.cpu_cores:g} core{'' if function.cpu_cores == 1 else 's'}, {part}"
        f"batch {function.max_batch}, {function.instances} instance{plural}"
    )


def render_plan(plan: Plan) -> str:
    """A plan as lines, a function each."""
    return "\n".join(f"  {render_function(function)}" for function in plan.functions)


def stage_letters(stages: Sequence[str]) -> dict[str, str]:
    """A letter for each stage, so that a granularity fits one line."""
    return {name: string.ascii_uppercase[at] for at, name in enumerate(stages)} if len(stages) <= 26 else {}


def short_grain(grain: Grain, letters: dict[str, str]) -> str:
    """A granularity in letters: ``ABC | DE | F``."""
    return " | ".join("".join(letters[stage] for stage in group) for group in grain) if letters else render_grain(grain)


def render_table(table: PlanTable, rate_per_s: float, slo: Slo, stages: Sequence[str]) -> Table:
    """Every granularity, a line each, the chosen one first; stages by letters that the caption explains."""
    letters = stage_letters(stages)
    shown = Table(
        title=f"{len(table.options)} granularities at {rate_per_s:g} requests/s, "
        f"SLO {slo.latency_ms:g} ms for {slo.target:.1%} (predicted)",
        caption=", ".join(f"{letter} {name}" for name, letter in letters.items()),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    shown.add_column("")
    grains = [short_grain(option.plan.grain, letters) for option in table.options]
    shown.add_column("granularity", no_wrap=bool(letters), min_width=max(map(len, grains)) if letters else None)
    for name in ("cores", "p50 ms", "p95 ms", "attain", "max/s", "billed $/h", "prov. $/h"):
        shown.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    shown.add_column("what it lacks", no_wrap=True)
    for option, grain in zip(table.options, grains, strict=True):
        is_winner = option is table.options[0]
        predicted = option.predicted
        cores = sum(function.cpu_cores * function.instances for function in option.plan.functions)
        shown.add_row(
            "✔" if is_winner and table.is_feasible else ("≈" if is_winner else ""),
            grain,
            f"{cores:g}",
            f"{predicted.p50_ms:.1f}",
            f"{predicted.p95_ms:.1f}",
            f"{predicted.attainment:.1%}",
            f"{predicted.capacity_per_s:.1f}",
            f"{predicted.billed_usd_per_hour:.4f}",
            f"{predicted.provisioned_usd_per_hour:.4f}",
            "" if is_winner else option.lacks.partition(" (")[0],
            style="bold" if is_winner else None,
        )
    return shown


def render_stages(spec: AppSpec) -> Table:
    """The stages of an app with their edges."""
    shown = Table(title=f"app {spec.name}: SLO {spec.slo.latency_ms:g} ms for {spec.slo.target:.1%}", title_justify="left")
    for name in ("stage", "reads", "returns", "max batch", "size", "device"):
        shown.add_column(name, overflow="fold")
    for index, node in enumerate(spec.graph.stages):
        declared = spec.spec(index)
        within = "".join(f" (each {each})" for each in node.scope)
        guards = "".join(f" if {render_source(spec.graph, guard.on)} is {guard.equals!r}" for guard in node.guards)
        shown.add_row(
            node.name + within,
            ", ".join(render_source(spec.graph, source) for source in node.inputs) + guards,
            declared.output.annotation,
            str(declared.max_batch),
            declared.size,
            declared.device,
        )
    return shown


def render_source(graph: Graph, source: Source) -> str:
    """Where a value comes from, in words."""
    if isinstance(source, Input):
        return graph.input_names[source.index]
    if isinstance(source, Element):
        return f"each of {render_source(graph, graph.eaches[source.each].over)}"
    if isinstance(source, Gathered):
        return f"all {render_source(graph, graph.eaches[source.each].result)}"
    if isinstance(source, Merged):
        return " or ".join(render_source(graph, option) for option in source.options)
    return graph.stages[source.stage].name


def render_load(report: LoadReport) -> Table:
    """A load report as one row."""
    shown = Table(title_justify="left")
    rows: Sequence[tuple[str, str]] = (
        ("offered", str(report.offered)),
        ("offered/s", f"{report.offered_per_s:g}"),
        ("right", str(report.right)),
        ("wrong", str(report.wrong)),
        ("status", " ".join(f"{status}×{count}" for status, count in report.status_counts.items())),
        ("p50 ms", f"{report.p50_ms:.1f}"),
        ("p95 ms", f"{report.p95_ms:.1f}"),
        ("p99 ms", f"{report.p99_ms:.1f}"),
        ("attainment", "-" if report.attainment is None else f"{report.attainment:.2%}"),
        ("goodput/s", f"{report.goodput_per_s:g}"),
        ("sent late by ≤ ms", f"{report.max_send_delay_ms:.1f}"),
    )
    for name, _ in rows:
        shown.add_column(name, justify="right")
    shown.add_row(*(value for _, value in rows))
    return shown
