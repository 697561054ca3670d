"""Arguments and options that several commands have, declared once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from grainwise.predictors.evaluator import EvaluatorName

AppPath = Annotated[Path, typer.Argument(metavar="APP", help="The app file, for example examples/ocr/app.py.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Html = Annotated[Path | None, typer.Option("--html", help="Write a self-contained page with plots here.")]
ProfilePath = Annotated[Path | None, typer.Option("--profile", help="A profile; default: the one beside the app file.")]
SloMs = Annotated[float | None, typer.Option("--slo-ms", help="Latency SLO; default: the app's own.")]
CostKind = Annotated[Literal["provisioned", "billed"], typer.Option("--objective", help="Which cost to minimise.")]

Evaluator = Annotated[EvaluatorName, typer.Option("--evaluator", help="The model by which plans are judged.")]
Late = Annotated[
    Literal["cheapest", "fastest", "drop"],
    typer.Option("--late", help="What is done about a request that cannot be in time any more."),
]
Dwell = Annotated[
    float, typer.Option("--dwell", help="Seconds after a change of granularity before the next.", min=0, max=86400.0)
]
