"""One small exception tree: every mistake a user can make ends in one line that helps."""

__all__ = [
    "BundleError",
    "CalibrationError",
    "CheckpointError",
    "DeviceError",
    "GateError",
    "InputError",
    "MissingDependency",
    "PrecisionError",
    "ReloError",
    "RuntimeUnavailable",
    "SourceError",
]


class ReloError(Exception):
    """Anything relo-edge refuses to do; the message is one line: what, found, expected, fix."""

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


class RuntimeUnavailable(ReloError):
    """A runtime that cannot be opened as asked, on this machine."""


class DeviceError(ReloError):
    """A GPU that failed or ran out of memory while it was used; what was opened on it is closed."""


class MissingDependency(ReloError):
    """An optional package, or a system library under one, that is not there."""


class GateError(ReloError):
    """A measurement below its gate: the artifact is not the same tracker."""
