"""One small exception tree: every mistake a user can make ends in one line that helps.

ReloError                   exit code 1
├── InputError              exit code 2: the caller asked for something that cannot be
│   └── PrecisionError      a precision that this runtime or bundle does not have
├── BundleError             a bundle that is incomplete, damaged, or of another version
├── CalibrationError        samples or ranges that no quantization can be built on
├── CheckpointError         a file that does not hold the weights it should
├── DeviceError             a GPU that failed while it was used
├── FinderError               a finder that does not answer, or whose answer is no box
├── GateError               a measurement below its gate
├── MissingDependency       an optional package or system library that is not installed
├── RuntimeUnavailable      a runtime that cannot be opened as asked on this machine
└── SourceError             a source that cannot be read, or an output that cannot be written

Ctrl-C ends a verb with exit code 130.
"""

__all__ = [
    "INTERRUPTED",
    "BundleError",
    "CalibrationError",
    "CheckpointError",
    "DeviceError",
    "FinderError",
    "GateError",
    "InputError",
    "MissingDependency",
    "NoSpaceError",
    "PrecisionError",
    "ReloError",
    "RuntimeUnavailable",
    "SourceError",
]

INTERRUPTED = 130
"""The exit code of a run that Ctrl-C ended: 128 and the signal's number, as shells have it."""


class ReloError(Exception):
    """Anything that relo-edge refuses to do.

    Args:
        what: what is wrong, in lower case unless it begins with a name, an option or a path.
        found: a noun phrase: what is there instead.
        expected: a noun phrase: what should be there.
        fix: an imperative: what to do, with the command where there is one.

    The message is one line: `what: found X, expected Y; fix`.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, found: object = None, expected: object = None, fix: str | None = None
    ) -> None:
        parts = [what]
        if found is not None:
            parts.append(f"found {found}")
        if expected is not None:
            parts.append(f"expected {expected}")
        message = ": ".join([parts[0], ", ".join(parts[1:])]) if parts[1:] else what
        if fix:
            message = f"{message}; {fix}"
        super().__init__(" ".join(message.split()))


class InputError(ReloError):
    """The caller asked for something that cannot be: a bad box, an unknown name, no such file."""

    exit_code = 2


class PrecisionError(InputError):
    """A precision that this runtime or bundle does not have."""


class CalibrationError(ReloError):
    """Samples or ranges that no quantization can be built on."""


class CheckpointError(ReloError):
    """A file that does not hold the weights it should."""


class BundleError(ReloError):
    """A bundle that is incomplete, damaged, or of another version or variant."""


class SourceError(ReloError):
    """A video, folder or camera that cannot be read, or an output that cannot be written."""


class NoSpaceError(SourceError):
    """A disk too full to go on recording to; what was recorded can still be finished."""


class RuntimeUnavailable(ReloError):
    """A runtime that cannot be opened as asked, on this machine."""


class DeviceError(ReloError):
    """A GPU that failed or ran out of memory while in use; everything opened on it is closed."""


class MissingDependency(ReloError):
    """An optional package, or a system library that one needs, that is not installed."""


class FinderError(ReloError):
    """A finder that does not answer, or whose answer is no box of the target."""


class GateError(ReloError):
    """A measurement below its gate: what was made is not the same tracker."""
