"""The words of `--tracker`, and what each opens."""

from __future__ import annotations

from relo_edge.errors import InputError
from relo_edge.peers.opencv import OPENCV_KINDS
from relo_edge.peers.peer import Peer, PeerKind

__all__ = ["PEERS", "list_usages", "names_peer", "open_peer"]


def _open_r1track(where: str, thinking: bool = False) -> Peer:
    """Whoever asks no server imports none of what asks."""
    from relo_edge.peers.r1track import open_r1track

    return open_r1track(where, thinking)


PEERS: dict[str, PeerKind] = {
    **OPENCV_KINDS,
    "r1track": PeerKind("r1track=URL", _open_r1track),
    "r1track-think": PeerKind(
        "r1track-think=URL", lambda where: _open_r1track(where, thinking=True)
    ),
}


def names_peer(word: str) -> bool:
    """Whether a word is that of a tracker which is no bundle."""
    return word.partition("=")[0] in PEERS


def list_usages() -> str:
    """Every word, as it is written."""
    return " | ".join(peer.usage for peer in PEERS.values())


def open_peer(word: str) -> Peer:
    """The tracker in `csrt`, `nano=BACKBONE.onnx,HEAD.onnx`, `r1track=URL` …

    Raises:
        InputError: an unknown word, or files or an address that cannot be.
        MissingDependency: this OpenCV does not have the tracker.
    """
    kind, _, rest = word.partition("=")
    if kind not in PEERS:
        raise InputError("tracker", found=repr(word), expected=list_usages())
    return PEERS[kind].open(rest)
