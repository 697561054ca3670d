"""One root for every error that Grainwise raises on purpose.

A message says what happened, to which object, and what to do; the doors translate the type to an exit code or a status.
"""


class GrainwiseError(Exception):
    """Root of all errors that users are meant to read."""


class DeclarationError(GrainwiseError):
    """The app file declares something that cannot be served."""


class ArtifactError(GrainwiseError):
    """A profile, plan or log cannot be used here; the message names the field that differs."""


class InputError(GrainwiseError):
    """A request does not fit the app; the message names the field."""


class InfeasibleError(GrainwiseError):
    """No plan meets the objective; the message carries the nearest one that would."""


class CapacityError(GrainwiseError):
    """A change does not fit the machine; the message carries the missing amount."""


class ConfigurationError(GrainwiseError):
    """An option has an unknown name or a value outside its range."""


class PlatformError(GrainwiseError):
    """This platform cannot do what was asked."""
