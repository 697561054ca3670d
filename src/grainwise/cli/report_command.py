"""``grainwise report``: what a log says about the run that wrote it, or a saved result shown again."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from grainwise.cli.log_results import result_of_log
from grainwise.cli.render import console
from grainwise.cli.results_file import encode_results, read_results
from grainwise.cli.simulate_command import check_pages, is_single, print_results, print_settings, write_file, write_page
from grainwise.domain.errors import ConfigurationError
from grainwise.reports.rows import open_requests
from grainwise.telemetry.compare import Replicated


class ReportOptions(Struct, frozen=True):
    """What ``grainwise report`` was told. ``source`` is a log folder, a segment of one, or a file of ``--out``."""

    source: Path
    warmup_s: float | None = None
    html: Path | None = None
    out: Path | None = None
    requests: Path | None = None


def report_source(options: ReportOptions, as_json: bool) -> None:
    """The command.

    Raises:
        GrainwiseError: the log, the saved result or an option cannot be used.
    """
    if options.html is not None:
        check_pages()
    settings = _saved(options) if _is_result(options.source) else [_logged(options)]
    if options.out is not None:
        write_file(options.out, encode_results(settings))
    if options.html is not None:
        write_page(options.html, settings, f"Report of {options.source.name}")
    if as_json:
        print_results(settings)
    elif is_single(settings):
        print_settings(settings)
    else:
        _print_each(settings)


def _is_result(source: Path) -> bool:
    """Whether there is JSON, which no segment of a log begins with."""
    try:
        with source.open("rb") as file:
            return source.suffix == ".json" or file.read(256).lstrip().startswith(b"{")
    except OSError:
        return False


def _saved(options: ReportOptions) -> list[Replicated]:
    for option, value in (("--warmup-seconds", options.warmup_s), ("--requests", options.requests)):
        if value is not None:
            raise ConfigurationError(f"{option} needs a log, and {options.source} is a saved result; give the log of its run")
    return read_results(options.source)


def _logged(options: ReportOptions) -> Replicated:
    requests = options.requests
    with ExitStack() as files:
        try:
            rows = files.enter_context(open_requests(requests)) if requests is not None else None
        except OSError as error:
            raise ConfigurationError(f"--requests {requests} cannot be written: {error.strerror}") from error
        result = result_of_log(options.source, warmup_s=options.warmup_s, on_request=rows.append if rows is not None else None)
    return Replicated(options.source.name, (result,))


def _print_each(settings: Sequence[Replicated]) -> None:
    """Every run in full, and how they compare."""
    from grainwise.reports.text import render_result

    shown = console()
    for setting in settings:
        for result in setting.results:
            shown.rule(setting.name if result.provenance.seed is None else f"{setting.name}, seed {result.provenance.seed}")
            shown.print(render_result(result))
    shown.rule("side by side")
    print_settings(settings)
