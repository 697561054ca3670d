"""``grainwise predictor evaluate``: every evaluator and the constants on held-out settings, over all cores."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from grainwise.cli.commands import print_json
from grainwise.cli.predictor_report import ContestReport, markdown, print_report
from grainwise.cli.predictor_training import draw_settings, load_samples, run_with_progress
from grainwise.cli.render import console
from grainwise.cli.simulate_command import write_file
from grainwise.domain.errors import CapacityError, ConfigurationError, InfeasibleError
from grainwise.predictors.analytic import Analytic
from grainwise.predictors.evaluator import PlanEvaluator
from grainwise.simulation.contest import Round, play, standings
from grainwise.simulation.learning import OVERRIDE, SHIPPED, load
from grainwise.simulation.rollout import Rollout
from grainwise.simulation.settings import FIXED, Setting

_MOST_WRONG = 90.0


class EvaluateOptions(Struct, frozen=True):
    """What ``grainwise predictor evaluate`` was told. ``wrong`` are percentages with commas between."""

    apps: tuple[Path, ...]
    settings: int
    requests: int
    seed: int
    wrong: str = "0,10,20,50"
    predictor: Path | None = None
    out: Path | None = None
    is_only_these: bool = False
    processes: int | None = None


class _Job(Struct, frozen=True):
    setting: Setting
    requests: int
    wrong_fractions: tuple[float, ...]
    predictor: str
    constants: dict[str, str]


def evaluate_predictors(options: EvaluateOptions, as_json: bool) -> None:
    """The command.

    Raises:
        PlatformError: LightGBM is not installed.
        GrainwiseError: an app, a profile, the predictor or an option cannot be used, or no setting is left.
    """
    wrong = parse_wrong(options.wrong)
    if options.out is not None and not options.out.resolve().parent.is_dir():
        raise ConfigurationError(f"--out {options.out}: there is no folder {options.out.parent}; make it first")
    path = str(options.predictor) if options.predictor is not None else os.environ.get(OVERRIDE, "")
    learned = load(path)
    began = time.perf_counter()
    samples = load_samples(options.apps)
    settings = draw_settings(samples, options.settings, options.seed, "held out", options.is_only_these)
    jobs = [_Job(each, options.requests, wrong, path, learned.predictor.constants) for each in settings]
    played = run_with_progress("settings held out", _play, jobs, options.processes, as_json)
    rounds = tuple(each for each in played if each is not None)
    if not rounds:
        raise InfeasibleError(f"in none of {len(jobs)} settings does any plan fit the machines; give more --settings")
    steady = [each for each in rounds if not each.is_saturated]
    report = ContestReport(
        predictor=path or SHIPPED,
        apps=tuple(sample.source for sample in samples),
        seed=options.seed,
        requests=options.requests,
        settings=len(jobs),
        left_out=len(jobs) - len(rounds),
        seconds=round(time.perf_counter() - began, 1),
        standings=standings(steady),
        standings_saturated=standings([each for each in rounds if each.is_saturated]),
        by_source={
            source: standings(_right([each for each in steady if each.source == source])) for source in _sources(steady)
        },
        rounds=rounds,
    )
    if options.out is not None:
        write_file(options.out, markdown(report).encode())
    if as_json:
        print_json(report)
        return
    print_report(console(), report)
    if options.out is not None:
        console(is_error=True).print(f"report: {options.out}")


def parse_wrong(text: str) -> tuple[float, ...]:
    """Percentages with commas between, as fractions.

    Raises:
        ConfigurationError: one is no number between 0 and 90.
    """
    found = []
    for part in text.split(","):
        try:
            percent = float(part)
        except ValueError:
            percent = -1.0
        if not 0 <= percent <= _MOST_WRONG:
            raise ConfigurationError(f"--wrong {text}: {part.strip()!r} is no percentage from 0 to {_MOST_WRONG:g}")
        found.append(percent / 100)
    return tuple(dict.fromkeys(found))


def _play(job: _Job) -> Round | None:
    """One setting; ``None`` where no plan fits the machines that were drawn."""
    evaluators: list[PlanEvaluator] = [Analytic(), load(job.predictor), Rollout(config=FIXED)]
    try:
        return play(job.setting, evaluators, job.constants, requests=job.requests, wrong_fractions=job.wrong_fractions)
    except (InfeasibleError, CapacityError):
        return None


def _sources(rounds: Sequence[Round]) -> list[str]:
    return sorted({each.source for each in rounds})


def _right(rounds: Sequence[Round]) -> list[Round]:
    """The rounds with what was answered for the least wrong run times alone."""
    least = min(answer.wrong_fraction for each in rounds for answer in each.answers)
    return [each.at(least) for each in rounds]
