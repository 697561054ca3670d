"""``grainwise demo``: profile, plan, serve and re-granulate the OCR example under a load that goes light, heavy, light."""

import asyncio
import importlib.util
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

import msgspec
from msgspec import Struct
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from grainwise.cli.admin_client import AdminClient, regranulate_and_follow
from grainwise.cli.commands import ServeAnnouncement, print_json, profile_app, read_spec
from grainwise.cli.load_command import outputs_equal
from grainwise.cli.load_generator import Call, LoadReport, Sample, run_load, summarise
from grainwise.cli.plan_command import Planned, PlanOptions, PlanOutput, make_plan, print_table
from grainwise.cli.profiles import profile_path
from grainwise.cli.render import console, short_grain, stage_letters
from grainwise.control.actions import Reject, Respond
from grainwise.control.events import RequestArrived
from grainwise.control.log import Entry
from grainwise.control.replay import replay
from grainwise.domain.errors import ConfigurationError, GrainwiseError
from grainwise.domain.plan import Grain
from grainwise.domain.time import SECOND
from grainwise.runtimes.log_writer import read_log
from grainwise.workloads.arrivals import Phase, arrivals

LIGHT_FRACTION = 0.12
HEAVY_FRACTION = 0.75
"""Rates of the phases as fractions of the highest capacity that any granularity is predicted to have."""

WINDOW_S = 5
POLL_S = 0.25
READY_S = 120.0


class Look(Struct, frozen=True):
    """The server as the admin API showed it at one moment (microseconds from the start of the load)."""

    at_us: int
    grain: str
    regranulations: int
    last_change: str
    last_refusal: str
    instances: tuple[str, ...]
    billed_usd: float
    provisioned_usd: float


class Change(Struct, frozen=True):
    """One re-granulation that was seen."""

    at_s: float
    grain: str
    why: str


class Row(Struct, frozen=True):
    """One window of the timeline. ``attainment`` is None where no request was due."""

    from_s: float
    to_s: float
    offered_per_s: float
    grain: str
    instances: int
    p50_ms: float
    p95_ms: float
    attainment: float | None
    billed_usd_per_hour: float
    provisioned_usd_per_hour: float


class DemoResult(Struct, frozen=True):
    """What the demo came to. ``problems`` is empty when it passed."""

    device_class: str
    stages: tuple[str, ...]
    light: PlanOutput
    heavy: PlanOutput
    load: LoadReport
    rows: tuple[Row, ...]
    changes: tuple[Change, ...]
    text: tuple[str, ...]
    log_entries: int
    problems: tuple[str, ...]


def run_demo(app: Path, budget: float, phase_seconds: float, as_json: bool) -> int:
    """The command; the exit code is 1 when a request was lost, answered twice or answered wrong.

    Raises:
        GrainwiseError: a part of it cannot run here.
    """
    if not app.is_file():
        raise ConfigurationError(f"there is no app file {app}; run the demo from the repository, or give --app")
    shown = Console(stderr=True) if as_json else console()
    shown.rule("1. profile: every stage in real instances")
    profile_app(app, budget, [], None, True, as_json)
    shown.rule("2. plan: every granularity")
    light_rate, heavy_rate = _rates(app)
    light, heavy = _plan(app, light_rate), _plan(app, heavy_rate)
    if not as_json:
        print_table(light)
        print_table(heavy)
    shown.rule("3. serve, load light → heavy → light, re-granulate live")
    result = asyncio.run(_drive(app, light.output, heavy.output, phase_seconds, shown))
    if as_json:
        print_json(result)
    else:
        _show(result, shown)
    return 1 if result.problems else 0


def _plan(app: Path, rate: float) -> Planned:
    # What was measured just now, never a profile that ships.
    return make_plan(PlanOptions(app, rate, profile=profile_path(app)))


def _rates(app: Path) -> tuple[float, float]:
    """A light and a heavy rate for this machine, from the capacity that is predicted for it."""
    table = _plan(app, 0.5).table
    best = max(option.predicted.capacity_per_s for option in table.options)
    if best <= 0:
        raise GrainwiseError(f"no granularity of {app} meets its SLO on this machine at any rate: {table.nearest}")
    return round(best * LIGHT_FRACTION, 2), round(best * HEAVY_FRACTION, 2)


async def _drive(app: Path, light: PlanOutput, heavy: PlanOutput, phase_s: float, shown: Console) -> DemoResult:
    pictures = _module(app.resolve().parent / "pictures.py").pictures()
    phases = [(light.rate_per_s, phase_s), (heavy.rate_per_s, phase_s), (light.rate_per_s, phase_s)]
    slo = light.slo
    with tempfile.TemporaryDirectory(prefix="grainwise-demo-") as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "grainwise", "serve", str(app), "--port", "0", "--admin-port", "0"]
        command += ["--rate", str(light.rate_per_s), "--log", str(log), "--json", "--check-invariants"]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            at = await _announced(process)
            calls = [
                Call(
                    f"{at.url}/v1/apps/{at.app}",
                    picture.content,
                    picture.media_type,
                    partial(outputs_equal, wanted=list(picture.expected)),
                )
                for picture in pictures
            ]
            shown.print(f"serving {at.app} at {at.url}, first granularity: {at.grain}")
            async with AdminClient(at.admin or "") as admin:
                samples, looks = await _load(calls, phases, admin, heavy, shown)
            text = await _read_one(calls[0])
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
        entries = [record for record in read_log(log) if isinstance(record, Entry)]
        problems = _problems(samples, entries, process.returncode or 0)
        report = replay(read_log(log))
        if not report.is_identical:
            problems.append(f"the replay of the log differs at {report.divergence}")
    changes = _changes(looks)
    if not any("on command" in change.why for change in changes):
        problems.append("the commanded re-granulation was not seen")
    return DemoResult(
        at.device_class,
        tuple(read_spec(app).graph.index_by_name),
        light,
        heavy,
        summarise(samples, slo.latency_ms, sum(seconds for _, seconds in phases)),
        tuple(_rows(samples, looks, slo.latency_ms)),
        tuple(changes),
        text,
        len(entries),
        tuple(problems),
    )


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("grainwise_demo_pictures", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigurationError(f"the demo needs {path}, which draws its pictures and knows their text")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


async def _announced(process: asyncio.subprocess.Process) -> ServeAnnouncement:
    if process.stdout is None:
        raise GrainwiseError("the server has no standard output")
    line = await asyncio.wait_for(process.stdout.readline(), READY_S)
    if not line:
        raise GrainwiseError(f"the server ended with {await process.wait()} before it was ready; its message is above")
    return msgspec.json.decode(line, type=ServeAnnouncement)


async def _load(
    calls: list[Call], phases: list[tuple[float, float]], admin: AdminClient, heavy: PlanOutput, shown: Console
) -> tuple[list[Sample], list[Look]]:
    instants = list(arrivals(tuple(Phase(rate, round(seconds * SECOND)) for rate, seconds in phases), "poisson", 1))
    total_s = sum(seconds for _, seconds in phases)
    looks: list[Look] = []
    began = time.perf_counter()
    is_over = asyncio.Event()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[detail]}"), TimeRemainingColumn())
    with Progress(*columns, console=shown, disable=not shown.is_terminal) as progress:
        task = progress.add_task("load", total=total_s, detail="")

        async def watch() -> None:
            while not is_over.is_set():
                look = await _look(admin, began)
                looks.append(look)
                progress.update(task, completed=min(total_s, look.at_us / SECOND), detail=look.grain)
                if len(looks) < 2 or look.regranulations != looks[-2].regranulations:
                    shown.print(f"  {look.at_us / SECOND:5.1f} s  {look.grain}  {look.last_change or '(first plan)'}")
                try:
                    await asyncio.wait_for(is_over.wait(), POLL_S)
                except TimeoutError:
                    continue

        async def command() -> None:
            # In the middle of the last phase, when the policy has settled, so that the two kinds of change are told apart.
            await asyncio.sleep(total_s - phases[-1][1] / 2)
            present = (await admin.get("/plan"))["grain"]
            wanted = "fused" if " | " in present else "split"
            await regranulate_and_follow(admin, wanted, None, 60.0)

        watcher = asyncio.create_task(watch())
        commander = asyncio.create_task(command())
        samples = await run_load(calls, instants)
        await commander
        is_over.set()
        await watcher
    return samples, looks


async def _look(admin: AdminClient, began: float) -> Look:
    plan = await admin.get("/plan")
    costs = (await admin.get("/status"))["cost"]
    instances = tuple("+".join(each["stages"]) for each in plan["instances"] if each["phase"] != "ending")
    return Look(
        round((time.perf_counter() - began) * SECOND),
        plan["grain"],
        plan["regranulations"],
        plan["last_change"],
        plan["last_refusal"],
        instances,
        costs["billed_usd"],
        costs["provisioned_usd"],
    )


async def _read_one(call: Call) -> tuple[str, ...]:
    found: list[bytes] = []

    def keep(body: bytes) -> bool:
        found.append(body)
        return True

    await run_load([Call(call.url, call.body, call.content_type, keep)], [0])
    outputs = json.loads(found[0])["outputs"] if found else {}
    return tuple(str(line) for value in outputs.values() for line in value)


def _problems(samples: Sequence[Sample], entries: Sequence[Entry], exit_code: int) -> list[str]:
    """What must not happen: a request that was lost, answered twice or answered wrong."""
    problems: list[str] = []
    lost = sum(sample.status == 0 for sample in samples)
    wrong = sum(sample.status == 200 and not sample.is_right for sample in samples)
    failed = sum(sample.status >= 500 for sample in samples)
    arrived = {entry.event.request for entry in entries if isinstance(entry.event, RequestArrived)}
    answers: dict[int, int] = {}
    for entry in entries:
        for action in entry.actions:
            if isinstance(action, Respond | Reject):
                answers[action.request] = answers.get(action.request, 0) + 1
    twice = sum(count > 1 for count in answers.values())
    unanswered = len(arrived - answers.keys())
    for count, what in (
        (lost, "got no answer"),
        (wrong, "were answered with the wrong text"),
        (failed, "were answered with a server error"),
        (twice, "were answered twice, by the log"),
        (unanswered, "arrived and were never answered, by the log"),
    ):
        if count:
            first = next((sample.detail for sample in samples if not sample.is_right), "")
            problems.append(f"{count} requests {what}; first error: {first}")
    if exit_code:
        problems.append(f"the server ended with exit code {exit_code}")
    return problems


def _changes(looks: Sequence[Look]) -> list[Change]:
    return [
        Change(round(now.at_us / SECOND, 1), now.grain, now.last_change)
        for before, now in itertools.pairwise(looks)
        if now.regranulations != before.regranulations
    ]


def _rows(samples: Sequence[Sample], looks: Sequence[Look], slo_ms: float) -> list[Row]:
    rows: list[Row] = []
    end_s = looks[-1].at_us / SECOND
    start = 0.0
    while start < end_s - 0.5:
        stop = min(start + WINDOW_S, end_s)
        within = [sample for sample in samples if start * SECOND <= sample.due < stop * SECOND]
        seen = [look for look in looks if start * SECOND <= look.at_us < stop * SECOND] or [looks[-1]]
        report = summarise(within, slo_ms, stop - start)
        span_s = max((seen[-1].at_us - seen[0].at_us) / SECOND, 1e-9)
        rows.append(
            Row(
                start,
                round(stop, 1),
                report.offered_per_s,
                " → ".join(dict.fromkeys(look.grain for look in seen)),
                len(seen[-1].instances),
                report.p50_ms,
                report.p95_ms,
                report.attainment if within else None,
                round((seen[-1].billed_usd - seen[0].billed_usd) / span_s * 3600, 5),
                round((seen[-1].provisioned_usd - seen[0].provisioned_usd) / span_s * 3600, 5),
            )
        )
        start += WINDOW_S
    return rows


def parse(grain: str) -> Grain:
    """A rendered granularity as groups again."""
    return tuple(tuple(group.split("+")) for group in grain.split(" | "))


def _show(result: DemoResult, shown: Console) -> None:
    letters = stage_letters(result.stages)
    table = Table(
        title=f"timeline (measured on {result.device_class}; prices nominal)",
        caption=", ".join(f"{letter} {name}" for name, letter in letters.items()),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("s", "offered/s", "granularity", "inst.", "p50 ms", "p95 ms", "attain", "billed $/h", "prov. $/h"):
        table.add_column(name, justify="left" if name == "granularity" else "right", overflow="fold")
    for row in result.rows:
        table.add_row(
            f"{row.from_s:.0f}-{row.to_s:.0f}",
            f"{row.offered_per_s:.1f}",
            " → ".join(short_grain(parse(grain), letters) for grain in row.grain.split(" → ")),
            str(row.instances),
            "-" if row.attainment is None else f"{row.p50_ms:.0f}",
            "-" if row.attainment is None else f"{row.p95_ms:.0f}",
            "-" if row.attainment is None else f"{row.attainment:.0%}",
            f"{row.billed_usd_per_hour:.4f}",
            f"{row.provisioned_usd_per_hour:.4f}",
        )
    shown.print(table)
    for change in result.changes:
        who = "on command" if "on command" in change.why else "by the planner"
        shown.print(f"{change.at_s:5.1f} s  re-granulated {who} to {short_grain(parse(change.grain), letters)}: {change.why}")
    shown.print("\nread from a picture:")
    for line in result.text:
        shown.print(f"  {line}", highlight=False)
    load = result.load
    shown.print(
        f"\n{load.offered} requests: {load.right} right, {load.wrong} wrong, attainment {load.attainment:.1%} of "
        f"{load.slo_ms:g} ms; {result.log_entries} log entries replayed with identical actions"
    )
    for problem in result.problems:
        shown.print(Text.assemble(("FAILED", "bold red"), f": {problem}"))
