"""The entry of ``grainwise plan``."""

from typing import Annotated

import typer

from grainwise.cli.entry_options import AppPath, CostKind, Evaluator, Html, Json, ProfilePath, SloMs
from grainwise.cli.errors import reported


def plan(
    app: AppPath,
    rate: Annotated[float, typer.Option(help="Forecast in requests per second.")] = 1.0,
    slo_ms: SloMs = None,
    grain: Annotated[str | None, typer.Option(help='"fused", "split", or groups: "a+b | c".')] = None,
    objective: CostKind = "provisioned",
    cores: Annotated[float | None, typer.Option(help="Plan for this many cores; default: this machine's.")] = None,
    evaluator: Evaluator = "analytic",
    policy: Annotated[str, typer.Option(help="The policy set that will control the app.")] = "adaptive",
    profile_path: ProfilePath = None,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Show every granularity with its best plan, the frontier of cost and attainment, which one wins, and why."""
    with reported():
        from grainwise.cli.plan_command import PlanOptions, plan_app

        options = PlanOptions(
            app,
            rate_per_s=rate,
            slo_ms=slo_ms,
            grain=grain,
            objective=objective,
            cores=cores,
            profile=profile_path,
            evaluator=evaluator,
            policies=policy,
            html=html,
        )
        plan_app(options, as_json)
