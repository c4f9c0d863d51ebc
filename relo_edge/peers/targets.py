"""Several targets for trackers that know one: a tracker for each."""

from __future__ import annotations

from collections.abc import Callable

from relo_edge.errors import InputError
from relo_edge.geometry import Box
from relo_edge.peers.peer import Frame, Peer
from relo_edge.tracker import SearchView, Track

__all__ = ["PeerTargets"]


class PeerTargets:
    """As `MultiTracker` for peers; there is nothing to see of how they search."""

    def __init__(self, first: Peer, open_another: Callable[[], Peer]) -> None:
        self.runtime = first
        self._spare: list[Peer] = [first]
        self._open_another = open_another
        self._peers: dict[int, Peer] = {}
        self._next_id = 0
        self.views: dict[int, SearchView] = {}

    def add(self, frame: Frame, box: Box) -> int:
        """Start a target at its box in this frame; the number returned names it from then on."""
        peer = self._spare.pop() if self._spare else self._open_another()
        peer.init(frame, box)
        self._peers[self._next_id] = peer
        self._next_id += 1
        return self._next_id - 1

    def remove(self, target: int) -> None:
        """Stop following a target."""
        if target not in self._peers:
            raise InputError("target", found=target, expected=f"one of {sorted(self._peers)}")
        del self._peers[target]

    def update(self, frame: Frame) -> dict[int, Track]:
        """Where every target is in the next frame."""
        return {target: peer.update(frame) for target, peer in self._peers.items()}
