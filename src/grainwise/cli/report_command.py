"""``grainwise report``: what a log says about the run that wrote it."""

from contextlib import ExitStack
from pathlib import Path

from grainwise.cli.log_results import result_of_log
from grainwise.cli.results_file import encode_results
from grainwise.cli.simulate_command import check_pages, print_results, print_settings, write_file, write_page
from grainwise.domain.errors import ConfigurationError
from grainwise.reports.rows import open_requests
from grainwise.telemetry.compare import Replicated


def report_log(
    log: Path, warmup_s: float | None, html: Path | None, out: Path | None, requests: Path | None, as_json: bool
) -> None:
    """The command.

    Raises:
        GrainwiseError: the log or an option cannot be used.
    """
    if html is not None:
        check_pages()
    with ExitStack() as files:
        try:
            rows = files.enter_context(open_requests(requests)) if requests is not None else None
        except OSError as error:
            raise ConfigurationError(f"--requests {requests} cannot be written: {error.strerror}") from error
        result = result_of_log(log, warmup_s=warmup_s, on_request=rows.append if rows is not None else None)
    settings = [Replicated(log.name, (result,))]
    if out is not None:
        write_file(out, encode_results(settings))
    if html is not None:
        write_page(html, settings, f"Report of {log.name}")
    if as_json:
        print_results(settings)
    else:
        print_settings(settings)
