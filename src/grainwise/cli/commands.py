"""What the commands do, apart from serving the demo: check, profile, plan, serve."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from grainwise.cli.options import check_app_file, read_inputs
from grainwise.cli.profiles import profile_path, save_profile, unfinished_profile
from grainwise.cli.render import console, render_stages
from grainwise.domain.app import AppSpec
from grainwise.domain.errors import ArtifactError
from grainwise.domain.plan import render_grain
from grainwise.planning.granularity import granularities
from grainwise.planning.large import is_large
from grainwise.profiles.artifact import Profile
from grainwise.runtimes.loading import load_app
from grainwise.runtimes.local.machine import require_linux

if TYPE_CHECKING:
    from grainwise.cli.serving import ServeOptions, Serving

T = TypeVar("T")


def read_spec(app: Path) -> AppSpec:
    """Import an app file in this process (it is the user's own) and return its declaration.

    Raises:
        DeclarationError: it cannot be served; the message says why and how to mend it.
        ConfigurationError: there is no such file.
    """
    check_app_file(app)
    # What the app file prints must not mix with what the command says.
    with redirect_stdout(sys.stderr):
        return load_app(app).spec(app.read_bytes())


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()


def check_app(app: Path, as_json: bool) -> None:
    """``grainwise check``."""
    spec = read_spec(app)
    if as_json:
        print_json(spec)
        return
    if is_large(spec.graph):
        said = "too many granularities to plan each"
    else:
        said = f"{sum(1 for _ in granularities(spec.graph))} granularities"
    console().print(render_stages(spec))
    console().print(f"{len(spec.graph.stages)} stages, {said}. Next: grainwise profile {app}")


def profile_app(app: Path, budget: float, inputs: list[Path], out: Path | None, fresh: bool, as_json: bool) -> Profile:
    """``grainwise profile``; also what ``serve`` and ``demo`` do when there is no profile.

    Raises:
        GrainwiseError: the app or its inputs cannot be profiled.
    """
    require_linux()
    from grainwise.profiler.run import profile

    check_app_file(app)
    where = out if out is not None else profile_path(app)
    previous = None if fresh else unfinished_profile(where)
    given = read_inputs(inputs)
    shown = console(is_error=True)
    what, detail = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[detail]}"))
    columns = (what, BarColumn(), detail, TimeRemainingColumn())
    with Progress(*columns, console=shown, disable=as_json) as progress:
        task = progress.add_task(f"profiling {app.stem}", total=budget, detail="")

        def step(state: object) -> None:
            elapsed, detail = getattr(state, "elapsed_s", 0.0), getattr(state, "detail", "")
            progress.update(task, completed=min(budget, elapsed), detail=detail)

        def measure(previous: Profile | None) -> Profile:
            return asyncio.run(
                profile(
                    app,
                    budget_s=budget,
                    inputs=given,
                    previous=previous,
                    on_progress=step,
                    save=lambda each: save_profile(each, where),
                )
            )

        try:
            measured = measure(previous)
        except ArtifactError:
            # What was begun is of an earlier version of the app, and is refused before anything is measured.
            if previous is None:
                raise
            measured = measure(None)
        progress.update(task, completed=budget)
    save_profile(measured, where)
    if as_json:
        print_json(measured)
    else:
        shown.print(f"profile of {measured.app} on {measured.device_class}: {where}")
    return measured


def serve_app(options: "ServeOptions", profile_budget: float, as_json: bool) -> None:
    """``grainwise serve``: until SIGTERM or SIGINT.

    Raises:
        GrainwiseError: it cannot begin.
    """
    require_linux()
    check_app_file(options.app_path)
    if options.config.evaluator == "learned":
        # Without its predictor or its library it could never answer, so nothing is measured first.
        from grainwise.simulation.learning import OVERRIDE, load

        load(os.environ.get(OVERRIDE, ""))
    beside = profile_path(options.app_path)
    is_wanted = not beside.exists() or unfinished_profile(beside) is not None
    if options.profile is None and profile_budget > 0 and is_wanted:
        console(is_error=True).print(f"no finished profile of {options.app_path} yet: measuring for {profile_budget:g} s first")
        profile_app(options.app_path, profile_budget, [], None, False, False)
    run_on_uvloop(_serve(options, as_json))


def run_on_uvloop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the event loop that the server uses."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


class ServeAnnouncement(Struct, frozen=True):
    """What ``grainwise serve --json`` prints once it is ready."""

    app: str
    url: str
    admin: str | None
    grain: str
    plan_id: str
    log: str
    device_class: str
    profile_device_class: str
    policies: str
    evaluator: str


async def _serve(options: "ServeOptions", as_json: bool) -> None:
    from grainwise.cli.serving import Serving
    from grainwise.gateway.server import on_signals

    opening = asyncio.ensure_future(Serving.open(options))

    def stop() -> None:
        if not opening.done():
            opening.cancel()
        elif opening.exception() is None:
            opening.result().drain()

    remove = on_signals(stop)
    try:
        serving = await opening
    except asyncio.CancelledError:
        return
    shown = console(is_error=True)
    try:
        await serving.ready()
        if serving.is_stopping:
            return
        if as_json:
            print_json(_announcement(serving))
        else:
            _announce(serving, shown)
        await serving.stopped(lambda: shown.print("draining: no new requests; those in flight are answered"))
    finally:
        await serving.close()
        remove()


def _announcement(serving: "Serving") -> ServeAnnouncement:
    plan, status, at = serving.table.winner.plan, serving.status(), serving.addresses
    return ServeAnnouncement(
        serving.spec.name,
        at.url,
        at.admin,
        render_grain(plan.grain),
        plan.id,
        str(serving.log.folder),
        status.device_class,
        status.profile_device_class,
        status.control.policies,
        status.control.evaluator,
    )


def _announce(serving: "Serving", shown: Console) -> None:
    at = serving.addresses
    shown.print(f"serving {serving.spec.name} at {at.url}/v1/apps/{serving.spec.name} (OIP v2 at {at.url}/v2)")
    shown.print(f"granularity {render_grain(serving.table.winner.plan.grain)}: {serving.table.because}")
    if not serving.table.is_feasible:
        shown.print(f"nothing meets the SLO: {serving.table.nearest or 'the nearest is served'}", style="yellow")
    config = serving.options.config
    shown.print(f"controlled by the policies {config.policies!r}, plans judged by {config.evaluator}")
    shown.print(f"admin API at {at.admin}; log in {serving.log.folder}")
    if serving.measured.device_class != serving.device_class:
        shown.print(
            f"profile of another machine accepted: measured on {serving.measured.device_class}, this is {serving.device_class}",
            style="yellow",
        )
