"""One writer per output file, across processes; the lock goes with the process that holds it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from relo_edge.errors import InputError
from relo_edge.host.files import explain_failure

__all__ = ["OutputLock"]


class OutputLock:
    """Held until it is closed; the second writer is refused.

    A hidden sibling is locked in the file's place, because the file itself is replaced at the end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute().with_name(f".{path.name}.lock")
        self._descriptor = -1
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        while self._descriptor < 0:
            with explain_failure(path):
                descriptor = os.open(self._path, flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                raise InputError(
                    f"output {str(path)!r}",
                    found="another process that is writing it",
                    fix="choose another name, or wait for its end",
                ) from None
            # Its last holder may have removed the file between our two calls.
            if self._is_current(descriptor):
                self._descriptor = descriptor
            else:
                os.close(descriptor)

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let others write; closing twice is fine."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> OutputLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
