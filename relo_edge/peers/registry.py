"""The words of `--tracker`, and what each opens."""

from __future__ import annotations

from relo_edge.errors import InputError
from relo_edge.peers.opencv import OPENCV_KINDS
from relo_edge.peers.peer import Peer, PeerKind
from relo_edge.peers.r1track import R1TRACK_KINDS

__all__ = ["PEERS", "name_peer", "open_peer"]

PEERS: dict[str, PeerKind] = {**OPENCV_KINDS, **R1TRACK_KINDS}


def open_peer(word: str) -> Peer:
    """The tracker in `csrt`, `nano=BACKBONE.onnx,HEAD.onnx`, `r1track=URL` …

    Raises:
        InputError: an unknown word, or files or an address that cannot be.
        MissingDependency: this OpenCV does not have the tracker.
    """
    kind, _, rest = word.partition("=")
    if kind not in PEERS:
        expected = " | ".join(peer.usage for peer in PEERS.values())
        raise InputError("tracker", found=repr(word), expected=expected)
    return PEERS[kind].open(rest)


def name_peer(word: str) -> str:
    """What a folder of its results is called."""
    return word.partition("=")[0]
