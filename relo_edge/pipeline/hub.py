"""The public weights, fetched from where the authors published them."""

from __future__ import annotations

import errno
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from relo_edge.errors import InputError, MissingDependency, SourceError
from relo_edge.families.registry import list_families, resolve_variant
from relo_edge.host.files import hash_file
from relo_edge.host.telemetry import import_silenced

__all__ = ["Fetched", "fetch_checkpoint", "list_published"]

HOPELESS = (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError)
NO_WAY = (errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH)


@dataclass(frozen=True)
class Fetched:
    """A checkpoint on disk, and what to do with it."""

    variant: str
    path: Path
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"variant": self.variant, "path": str(self.path), "sha256": self.sha256}

    def describe(self) -> str:
        """Where it is and the next command."""
        return (
            f"{self.path}\nsha256 {self.sha256}\nnext: "
            f"{_write_export_command(self.variant, str(self.path))}"
        )


def fetch_checkpoint(variant: str, folder: Path) -> Fetched:
    """Download a variant's public weights; a broken download is resumed.

    Args:
        variant: a published variant, such as t256 or sutrack-b224.
        folder: where the checkpoint goes.

    Returns:
        The checkpoint's path and hash.

    Raises:
        InputError: there are no public weights of that name.
        MissingDependency: huggingface_hub is not installed.
        SourceError: the hub cannot be reached, or refuses.
    """
    published = list_published()
    if variant not in published:
        raise InputError("public weights", found=variant, expected=" | ".join(published))
    repository, file = published[variant]
    try:
        hub = import_silenced("huggingface_hub")
        logging = import_silenced("huggingface_hub.utils").logging
    except ImportError as error:
        raise MissingDependency(
            "huggingface_hub does not import", found=error, fix="`pip install 'relo-edge[export]'`"
        ) from None
    logging.set_verbosity_error()  # each of its retries would be a line of its own
    barrier = _find_barrier(hub, repository, file)
    try:
        # Without a way to the hub, what is whole in the folder will do.
        path = Path(
            hub.hf_hub_download(
                repository,
                file,
                local_dir=folder,
                local_files_only=barrier is not None,
            )
        )
    except Exception as error:  # the hub's and its HTTP library's errors share no base class
        what = f"{variant} cannot be fetched from the Hugging Face hub"
        by_hand = _write_export_command(variant, "FILE")
        again = "go online and run this again" if barrier else "run this again"
        raise SourceError(
            "the Hugging Face hub cannot be reached" if barrier else what,
            found=_describe_cause(barrier or error),
            fix=f"{again}, or download {file} from the model repository {repository} "
            f"by hand and run `{by_hand}`",
        ) from None
    return Fetched(variant, path, hash_file(path))


def list_published() -> dict[str, tuple[str, str]]:
    """By variant, the repository on the hub and the file in it."""
    releases = [family.release for family in list_families() if family.release]
    return {name: (one.repository, file) for one in releases for name, file in one.files.items()}


def _find_barrier(hub: Any, repository: str, file: str) -> Exception | None:
    """What keeps this machine from the hub, if trying again is of no use.

    The hub's download itself tries again for half a minute whatever it is. A slow answer is none
    of this: it is left to the download.
    """
    try:
        hub.get_hf_file_metadata(hub.hf_hub_url(repository, file))
    except Exception as error:
        cause = _find_cause(error)
        unreachable = isinstance(cause, OSError) and cause.errno in NO_WAY
        return error if unreachable or isinstance(cause, HOPELESS) else None
    return None


def _find_cause(error: BaseException) -> BaseException:
    """The first thing that went wrong, which the hub's own message hides."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


def _describe_cause(error: BaseException) -> str:
    cause = _find_cause(error)
    return f"{type(cause).__name__}: {cause}"


def _write_export_command(variant: str, checkpoint: str) -> str:
    folder = resolve_variant(variant).bundle_name
    return f"relo-edge export --variant {variant} --checkpoint {quote(checkpoint)} -o {folder}"
