"""The command line called in this process, and apps with made-up profiles for it."""

import json
from pathlib import Path

from typer.testing import CliRunner

from grainwise.cli.main import cli
from grainwise.cli.profiles import save_profile
from grainwise.runtimes.loading import load_app
from live.serving_harness import TEXT_APP, made_profile

ROOT = Path(__file__).parents[3]
OCR_APP = ROOT / "examples" / "ocr" / "app.py"

CHAIN = """
from grainwise import App, Batch, Slo

app = App("chain", slo=Slo(latency_ms=200))


@app.stage(max_batch=4)
def one(values: Batch[int]) -> Batch[int]:
    return [value + 1 for value in values]


@app.stage(max_batch=4)
def two(values: Batch[int]) -> Batch[int]:
    return [value * 2 for value in values]


@app.stage(max_batch=4)
def three(values: Batch[int]) -> Batch[int]:
    return [value - 3 for value in values]


@app.stage(max_batch=4)
def four(values: Batch[int]) -> Batch[str]:
    return [str(value) for value in values]


@app.flow
def flow(value: int) -> str:
    return four(three(two(one(value))))
"""


class Said:
    """What a command printed and how it ended."""

    def __init__(self, code, out, err):
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def words(self):
        """Everything that was printed, without the breaks of lines."""
        return " ".join((self.out + self.err).split())


def grainwise(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], env={"COLUMNS": "200", "TERM": "dumb"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.exit_code, result.stdout, result.stderr)


def profile_of(app, folder, **changes):
    """The path of a made-up profile of an app."""
    import msgspec

    spec = load_app(app).spec(app.read_bytes())
    path = folder / "made.profile.json"
    save_profile(msgspec.structs.replace(made_profile(spec), **changes), path)
    return path


def chain_app(folder, source=CHAIN):
    path = folder / "chain.py"
    path.write_text(source)
    return path


__all__ = ["CHAIN", "OCR_APP", "ROOT", "TEXT_APP", "Said", "chain_app", "grainwise", "profile_of"]
