"""``grainwise``: the commands that serve are entries here, those about runs in ``run_entries``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from grainwise.cli import run_entries
from grainwise.cli.entry_options import AppPath, CostKind, Dwell, Evaluator, Json, Late, ProfilePath, SloMs
from grainwise.cli.errors import reported
from grainwise.cli.plan_entry import plan
from grainwise.cli.predictor_commands import predictor
from grainwise.cli.trace_commands import traces

cli = typer.Typer(
    name="grainwise",
    help="Serve multi-stage ML applications at the granularity that meets the SLO at the least cost.",
    epilog="Example: grainwise serve examples/text/app.py",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

cli.add_typer(predictor, name="predictor")
cli.add_typer(traces, name="trace")

AcceptProfile = Annotated[
    bool, typer.Option("--accept-profile", help="Use a profile of another class of machine; every output then says so.")
]


@cli.command(epilog="Example: grainwise check examples/ocr/app.py")
def check(app: AppPath, as_json: Json = False) -> None:
    """Import an app file, trace its flow and show the stages, or say what is wrong and how to mend it."""
    with reported():
        from grainwise.cli.commands import check_app

        check_app(app, as_json)


@cli.command(epilog="Example: grainwise profile examples/ocr/app.py --budget 60")
def profile(
    app: AppPath,
    budget: Annotated[float, typer.Option(help="Seconds to measure.", min=1)] = 600.0,
    inputs: Annotated[
        list[Path] | None,
        typer.Option("--input", help="A file with one input, instead of the app's own samples; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; default: beside the app file.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over instead of resuming an unfinished profile.")] = False,
    as_json: Json = False,
) -> None:
    """Measure every stage in real instances over batch, CPU share and input size, and write a profile."""
    with reported():
        from grainwise.cli.commands import profile_app

        profile_app(app, budget, inputs or [], out, fresh, as_json)


cli.command(epilog="Example: grainwise plan examples/ocr/app.py --slo-ms 800 --rate 5")(plan)


@cli.command(epilog="Example: grainwise serve examples/ocr/app.py --port 8000")
def serve(
    app: AppPath,
    host: Annotated[str, typer.Option(help="Address for clients.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port for clients, 0 for a free one.", min=0, max=65535)] = 8000,
    admin_host: Annotated[str, typer.Option(help="Address of the admin API.")] = "127.0.0.1",
    admin_port: Annotated[int, typer.Option(help="Port of the admin API, 0 for a free one.", min=0, max=65535)] = 8001,
    admin_socket: Annotated[Path | None, typer.Option(help="A unix socket for the admin API instead.")] = None,
    admin_token_file: Annotated[Path | None, typer.Option(help="File with the admin API's token.")] = None,
    profile_path: ProfilePath = None,
    accept_profile: AcceptProfile = False,
    rate: Annotated[float, typer.Option(help="Forecast for the first plan, requests per second.")] = 1.0,
    slo_ms: SloMs = None,
    grain: Annotated[str | None, typer.Option(help="Begin with this granularity.")] = None,
    objective: CostKind = "provisioned",
    policy: Annotated[str, typer.Option(help="The policy set that decides.")] = "adaptive",
    evaluator: Evaluator = "analytic",
    late: Late = "cheapest",
    dwell: Dwell = 30.0,
    replan_seconds: Annotated[float, typer.Option(help="Least time between plans; 0: only on command.", min=0)] = 5.0,
    keep_alive_seconds: Annotated[float, typer.Option(help="How long a spare instance may stay idle.", min=0)] = 60.0,
    scale_to_zero: Annotated[bool, typer.Option("--scale-to-zero", help="Keep no instance while the app is idle.")] = False,
    max_requests: Annotated[int, typer.Option(help="Accepted requests in flight; above it 429.", min=1)] = 1024,
    log: Annotated[Path | None, typer.Option(help="Folder for the log; default: beside the app file.")] = None,
    arena_mib: Annotated[int, typer.Option(help="Shared memory per arena, MiB; bounds a payload.", min=8)] = 256,
    profile_budget: Annotated[float, typer.Option(help="Seconds to profile when there is no profile; 0: refuse.")] = 30.0,
    check_invariants: Annotated[bool, typer.Option("--check-invariants", help="Check every step of the controller.")] = False,
    as_json: Json = False,
) -> None:
    """Serve an app over HTTP: plan, start instances, and re-granulate as the load changes. SIGTERM drains."""
    with reported():
        from grainwise.cli.commands import serve_app
        from grainwise.cli.options import to_us
        from grainwise.cli.serving import ServeOptions
        from grainwise.domain.config import AppConfig
        from grainwise.gateway.admin import AdminListen, read_token

        token = read_token(admin_token_file) if admin_token_file is not None else None
        listen = AdminListen(str(admin_socket) if admin_socket else None, admin_host, admin_port, token)
        config = AppConfig(
            max_requests=max_requests,
            keep_alive_us=to_us("--keep-alive-seconds", keep_alive_seconds),
            scale_to_zero=scale_to_zero,
            replan_us=to_us("--replan-seconds", replan_seconds),
            policies=policy,
            evaluator=evaluator,
            dwell_us=to_us("--dwell", dwell),
            late=late,
        )
        options = ServeOptions(
            app,
            host=host,
            port=port,
            admin=listen,
            profile=profile_path,
            accept_profile=accept_profile,
            rate_per_s=rate,
            slo_ms=slo_ms,
            objective=objective,
            grain=grain,
            log=log,
            arena_mib=arena_mib,
            config=config,
            check_invariants=check_invariants,
        )
        serve_app(options, profile_budget, as_json)


@cli.command(epilog="""Example: grainwise load http://127.0.0.1:8000/v1/apps/text --json-body '{"text": "a b"}' --rate 50""")
def load(
    url: Annotated[
        str,
        typer.Argument(
            help="Where to post, for example http://127.0.0.1:8000/v1/apps/ocr; the server alone for a file of several apps."
        ),
    ],
    workload: Annotated[
        str | None,
        typer.Option(help="A workload file, or a line such as poisson:50:60s, gamma:50:cv=3:60s, users:20:think=1s:60s."),
    ] = None,
    rate: Annotated[float, typer.Option(help="Requests per second.", min=0)] = 10.0,
    seconds: Annotated[float, typer.Option(help="How long.", min=0.1)] = 10.0,
    steps: Annotated[str | None, typer.Option(help="Rates over time instead: RATE:SECONDS,RATE:SECONDS,…")] = None,
    trace: Annotated[str | None, typer.Option(help="Recorded arrivals instead: a trace by its name or path.")] = None,
    time_scale: Annotated[float, typer.Option(help="Play a trace this many times as fast.", min=1e-6)] = 1.0,
    process: Annotated[Literal["poisson", "constant"], typer.Option(help="Spacing of arrivals.")] = "poisson",
    seed: Annotated[int, typer.Option(help="Seed of the arrivals.")] = 1,
    bodies: Annotated[
        list[str] | None,
        typer.Option(
            "--body", help="[APP=]FILE to post as raw bytes; may be repeated, then in turn, or by the sizes of the workload."
        ),
    ] = None,
    json_bodies: Annotated[list[str] | None, typer.Option("--json-body", help="[APP=]JSON to post; may be repeated.")] = None,
    expect: Annotated[str | None, typer.Option(help="JSON that every answer's outputs must equal.")] = None,
    slo_ms: Annotated[float | None, typer.Option("--slo-ms", help="Count attainment against this latency.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds until the client gives a request up.", min=0.1)] = 60.0,
    as_json: Json = False,
) -> None:
    """Offer a load, free of coordinated omission, and report latency and attainment.

    Exits 1 where an answer was wrong, none came, or the request itself was refused (4xx but 429).
    """
    with reported():
        from grainwise.cli.load_command import LoadOptions, load_url

        options = LoadOptions(
            url=url,
            workload=workload,
            rate_per_s=rate,
            seconds=seconds,
            steps=steps,
            trace=trace,
            time_scale=time_scale,
            process=process,
            seed=seed,
            bodies=bodies or [],
            json_bodies=json_bodies or [],
            expect=expect,
            slo_ms=slo_ms,
            timeout_s=timeout,
        )
        raise SystemExit(load_url(options, as_json))


@cli.command(epilog='Example: grainwise regranulate "decode+detect | crop+recognise+assemble"')
def regranulate(
    grain: Annotated[
        str | None,
        typer.Argument(help='"fused", "split", or groups: "a+b | c". Without it the planner chooses.'),
    ] = None,
    admin: Annotated[str, typer.Option(help="The admin API: a URL, or the path of its unix socket.")] = "http://127.0.0.1:8001",
    app: Annotated[str | None, typer.Option(help="Which app, where several are served.")] = None,
    admin_token_file: Annotated[Path | None, typer.Option(help="File with the admin API's token.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the change; 0: only ask.", min=0)] = 60.0,
    as_json: Json = False,
) -> None:
    """Ask a running server for another granularity and wait until requests run on it."""
    with reported():
        from grainwise.cli.admin_client import regranulate_server

        raise SystemExit(regranulate_server(admin, grain, app, admin_token_file, wait, as_json))


@cli.command(epilog="Example: grainwise replay examples/text/.grainwise/logs/20260102-030405")
def replay(
    log: Annotated[Path, typer.Argument(help="A log folder, or one segment of it.")],
    as_json: Json = False,
) -> None:
    """Feed a recorded log to a fresh controller and compare its actions byte for byte. Exits 1 where they differ."""
    with reported():
        from grainwise.cli.replay_command import replay_log

        raise SystemExit(replay_log(log, as_json))


@cli.command(epilog="Example: grainwise calibrate examples/sleep/app.py --apply")
def calibrate(
    app: AppPath,
    levels: Annotated[str, typer.Option(help="Percent of capacity at which live and simulated are compared.")] = "30,60,85",
    gate: Annotated[str | None, typer.Option(help='Those that decide the exit code; default: all, "" for none.')] = None,
    runs: Annotated[int, typer.Option(help="Live runs at each level, interleaved.", min=1)] = 5,
    seconds: Annotated[float, typer.Option(help="How long each of them counts.")] = 30.0,
    fit_seconds: Annotated[float, typer.Option(help="How long the run counts that corrects the profile.")] = 60.0,
    cores: Annotated[float, typer.Option(help="What instances have at most; the client and the server have the rest.")] = 1.5,
    capacity: Annotated[float | None, typer.Option(help="Capacity in requests per second, instead of seeking it.")] = None,
    capacity_seconds: Annotated[float, typer.Option(help="How long each run counts that seeks the capacity.")] = 60.0,
    rate: Annotated[float | None, typer.Option(help="Plan for this rate; default: 60 % of the predicted capacity.")] = None,
    grain: Annotated[str | None, typer.Option(help='"fused", "split", or groups: "a+b | c".')] = None,
    slo_ms: SloMs = None,
    profile_path: ProfilePath = None,
    profile_budget: Annotated[float, typer.Option(help="Seconds to profile when there is no profile; 0: refuse.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Seed of the arrivals.", min=0)] = 1,
    apply: Annotated[bool, typer.Option("--apply", help="Write the correction into the profile.")] = False,
    as_json: Json = False,
) -> None:
    """Run an app live and simulated with the same arrivals, compare them, and correct the profile by the difference.

    Exits 1 where a metric of a gated level is out of its bound.
    """
    with reported():
        from grainwise.cli.calibrate import calibrate_app
        from grainwise.cli.calibrate_options import CalibrateOptions, parse_levels

        options = CalibrateOptions(
            app,
            levels=parse_levels("--levels", levels),
            gate=parse_levels("--gate", levels if gate is None else gate),
            runs=runs,
            seconds=seconds,
            fit_seconds=fit_seconds,
            cores=cores,
            capacity_per_s=capacity,
            capacity_seconds=capacity_seconds,
            rate_per_s=rate,
            grain=grain,
            slo_ms=slo_ms,
            profile=profile_path,
            profile_budget=profile_budget,
            seed=seed,
            apply=apply,
        )
        raise SystemExit(calibrate_app(options, as_json))


@cli.command(epilog="Example: grainwise policies adaptive")
def policies(
    name: Annotated[str | None, typer.Argument(help="One set, with what each of its parts does; default: all.")] = None,
    as_json: Json = False,
) -> None:
    """Show the policy sets that --policy takes: whose idea each is, and which policy answers which question."""
    with reported():
        from grainwise.cli.policies_command import show_policies

        show_policies(name, as_json)


@cli.command(epilog="Example: grainwise demo --budget 60")
def demo(
    app: Annotated[Path, typer.Option(help="The OCR app.")] = Path("examples/ocr/app.py"),
    budget: Annotated[float, typer.Option(help="Seconds to profile.", min=1)] = 60.0,
    phase_seconds: Annotated[float, typer.Option(help="Seconds of each phase of the load.", min=5)] = 20.0,
    as_json: Json = False,
) -> None:
    """Profile, plan, serve and re-granulate the OCR example under a load that goes light, heavy, light."""
    with reported():
        from grainwise.cli.demo import run_demo

        raise SystemExit(run_demo(app, budget, phase_seconds, as_json))


run_entries.register(cli)


def main() -> None:
    """Entry point."""
    cli()
