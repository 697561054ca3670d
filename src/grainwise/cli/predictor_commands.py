"""``grainwise predictor``: train a predictor on simulated settings, and hold all evaluators against settings held out."""

from pathlib import Path
from typing import Annotated

import typer

from grainwise.cli.errors import reported

predictor = typer.Typer(
    help="The models by which plans are judged: train the learned one, compare all of them.", no_args_is_help=True
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Apps = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[APP...]", help="App files with a profile, whose run times are varied; none: made apps alone."),
]
Only = Annotated[bool, typer.Option("--only", help="No made apps: the predictor is then for these apps alone.")]
Seed = Annotated[int, typer.Option(help="Seed of the settings.", min=0)]
Processes = Annotated[int | None, typer.Option(help="At most so many processes; default: one for each core.", min=1)]


@predictor.command(epilog="Example: grainwise predictor train examples/ocr/app.py --out ocr.predictor.json")
def train(
    apps: Apps = None,
    settings: Annotated[int, typer.Option(help="How many settings to simulate.", min=1)] = 240,
    requests: Annotated[int, typer.Option(help="About how many requests each simulated run has.", min=20)] = 250,
    seed: Seed = 1,
    out: Annotated[Path, typer.Option(help="Where to write the predictor.")] = Path("grainwise.predictor.json"),
    only: Only = False,
    keep: Annotated[Path | None, typer.Option(help="Write the simulated runs here too, to learn from them again.")] = None,
    kept: Annotated[Path | None, typer.Option(help="Learn from runs that --keep wrote instead of simulating.")] = None,
    processes: Processes = None,
    as_json: Json = False,
) -> None:
    """Simulate varied settings under every candidate plan and train trees on where the closed form errs."""
    with reported():
        from grainwise.cli.predictor_training import TrainOptions, train_predictor

        options = TrainOptions(tuple(apps or ()), settings, requests, seed, out, only, processes, keep, kept)
        train_predictor(options, as_json)


@predictor.command(epilog="Example: grainwise predictor evaluate examples/ocr/app.py --out report.md")
def evaluate(
    apps: Apps = None,
    settings: Annotated[int, typer.Option(help="How many settings to hold the evaluators against.", min=1)] = 60,
    requests: Annotated[
        int, typer.Option(help="About how many requests each of the runs has that tell the truth.", min=20)
    ] = 1000,
    seed: Seed = 1,
    wrong: Annotated[
        str, typer.Option(help="Percent by which the run times are wrong that evaluators are given.")
    ] = "0,10,20,50",
    predictor_path: Annotated[
        Path | None,
        typer.Option("--predictor", help="The learned predictor; default: GRAINWISE_PREDICTOR, else the shipped one."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the report here, as Markdown.")] = None,
    only: Only = False,
    processes: Processes = None,
    as_json: Json = False,
) -> None:
    """Compare analytic, learned, rollout and constants on settings that nothing was trained on."""
    with reported():
        from grainwise.cli.predictor_contest import EvaluateOptions, evaluate_predictors

        options = EvaluateOptions(tuple(apps or ()), settings, requests, seed, wrong, predictor_path, out, only, processes)
        evaluate_predictors(options, as_json)
