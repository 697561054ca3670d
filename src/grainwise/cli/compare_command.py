"""``grainwise compare``: results of several runs side by side, live or simulated alike."""

from collections.abc import Sequence
from pathlib import Path

from grainwise.cli.commands import print_json
from grainwise.cli.render import console
from grainwise.cli.results_file import read_settings
from grainwise.cli.simulate_command import write_page
from grainwise.domain.errors import ConfigurationError
from grainwise.telemetry.compare import compare


def compare_results(paths: Sequence[Path], html: Path | None, as_json: bool) -> None:
    """The command: the first file is what the others are held against.

    Raises:
        ArtifactError: a file holds no result.
        ConfigurationError: there is nothing to compare.
    """
    settings = read_settings(paths)
    if len(settings) < 2 and len(settings[0].results) < 2:
        raise ConfigurationError(f"{paths[0]} holds one run and there is nothing to compare it with; give a second result")
    comparison = compare(settings)
    if html is not None:
        write_page(html, settings, "Comparison")
    if as_json:
        print_json(comparison)
        return
    from grainwise.reports.text import render_comparison

    console().print(render_comparison(comparison))
