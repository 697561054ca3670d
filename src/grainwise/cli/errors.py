"""From errors to exit codes and one readable message; a traceback only for what nobody foresaw."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from grainwise.domain.errors import (
    ArtifactError,
    CapacityError,
    ConfigurationError,
    DeclarationError,
    GrainwiseError,
    InfeasibleError,
    InputError,
    PlatformError,
)

EXIT_CODES: tuple[tuple[type[GrainwiseError], int], ...] = (
    (ConfigurationError, 2),
    (DeclarationError, 3),
    (ArtifactError, 4),
    (InfeasibleError, 5),
    (CapacityError, 6),
    (PlatformError, 7),
    (InputError, 8),
    (GrainwiseError, 1),
)
"""The first row whose type fits decides. 2 is also what an unusable command line exits with."""


def exit_code(error: GrainwiseError) -> int:
    """The exit code of a command that ended with ``error``."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


@contextmanager
def reported() -> Iterator[None]:
    """Print a ``GrainwiseError`` as one message on standard error and exit with its code."""
    try:
        yield
    except GrainwiseError as error:
        sys.stderr.write(f"grainwise: {error}\n")
        raise SystemExit(exit_code(error)) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
