"""The exception tree of the library.

    FfrError
    ├── InputError            what a person or a file gave us is wrong
    │   ├── RecordError       one record of a corpus (carries a dead-letter reason)
    │   ├── ConfigError       a TOML file or an option
    │   ├── LimitError        larger than a limit allows
    │   └── ForbiddenError    outside the configured roots, buckets or tenant
    ├── NotFoundError         a dialogue, image, file or index that is not there
    ├── FingerprintError      an index was built with another encoder
    └── BusyError             the index file is open elsewhere, or the service is full

Every message is one sentence: the value, what was expected, and the next step.
"""


class FfrError(Exception):
    """Base of every error that this project raises on purpose."""


class InputError(FfrError, ValueError):
    """Input that a person can correct."""


class RecordError(InputError):
    """One record cannot be used; `reason` is a short stable word for the dead letter."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Keep both arguments when the error crosses a process border."""
        return (type(self), (self.reason, str(self)))


class ConfigError(InputError):
    """A configuration value is missing, unknown or out of range."""


class LimitError(InputError):
    """Input larger than a stated limit."""


class ForbiddenError(InputError):
    """Input that points outside what is allowed."""


class NotFoundError(FfrError, LookupError):
    """Something asked for by name does not exist."""


class FingerprintError(FfrError):
    """The index was built with a different encoder than the one in use."""


class BusyError(FfrError):
    """A resource is held by somebody else; try again later."""
