"""``grainwise calibrate``: an app live on this machine beside its simulated twin, and what that says about a profile."""

import asyncio
import tempfile
from pathlib import Path

import msgspec

from grainwise.cli.calibrate_live import reserve_cores
from grainwise.cli.calibrate_options import CalibrateOptions
from grainwise.cli.calibrate_render import Outcome, print_outcome, told
from grainwise.cli.calibrate_session import Session
from grainwise.cli.commands import print_json, profile_app, read_spec, run_on_uvloop
from grainwise.cli.profiles import profile_path, read_profile, save_profile, unfinished_profile
from grainwise.domain.app import Slo
from grainwise.domain.errors import ConfigurationError
from grainwise.gateway.server import on_signals
from grainwise.profiles.artifact import check
from grainwise.runtimes.local.machine import device_class, require_linux

INTERRUPTED = 130
"""The exit code after a signal."""


def calibrate_app(options: CalibrateOptions, as_json: bool) -> int:
    """The command; the exit code is 1 where a gated level fails.

    Raises:
        GrainwiseError: the app cannot be profiled, served or simulated here.
    """
    require_linux()
    if not options.levels:
        raise ConfigurationError("--levels names no level; give percentages of capacity, as in 30,60,85")
    unknown = [f"{level:g}" for level in options.gate if level not in options.levels]
    if unknown:
        raise ConfigurationError(f"--gate names {', '.join(unknown)}, which --levels does not run; name it there too")
    reserve_cores(options.cores)
    spec = read_spec(options.app)
    if options.slo_ms is not None:
        spec = msgspec.structs.replace(spec, slo=Slo(options.slo_ms, spec.slo.target))
    where = options.profile if options.profile is not None else profile_path(options.app)
    is_wanted = not where.exists() or unfinished_profile(where) is not None
    if is_wanted and options.profile_budget > 0:
        profile_app(options.app, options.profile_budget, [], where, False, as_json)
    known = read_profile(options.app, where)
    check(known, spec=spec, device_class=device_class())
    with told(is_quiet=as_json) as tell, tempfile.TemporaryDirectory(prefix="grainwise-calibrate-") as folder:
        session = Session(options, spec, known, Path(folder) / "profile.json", tell)
        outcome = run_on_uvloop(_until_signal(session))
    if outcome is None:
        return INTERRUPTED
    if options.apply:
        save_profile(msgspec.structs.replace(known, calibration=outcome.calibration), where)
    if as_json:
        print_json(outcome)
    else:
        print_outcome(outcome, where, is_applied=options.apply)
    return 0 if outcome.is_met else 1


async def _until_signal(session: Session) -> Outcome | None:
    """The outcome, or None where SIGINT or SIGTERM came first; either way nothing is left running."""
    running = asyncio.ensure_future(session.run())

    def stop() -> None:
        running.cancel()

    remove = on_signals(stop)
    try:
        return await running
    except asyncio.CancelledError:
        return None
    finally:
        remove()
