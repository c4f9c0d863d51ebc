"""Proof before publishing: the exported graphs against the reference network over a rollout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import GateError
from relo_edge.geometry import box_in_template, crop_into, hann_window, place_crop, read_box
from relo_edge.graphs.sessions import open_session
from relo_edge.spec import Variant
from relo_edge.synthetic.clip import make_clip

if TYPE_CHECKING:
    from relo_edge.network.relo import Relo

__all__ = ["TOLERANCE", "FrameErrors", "verify_graphs"]

# Of logits, boxes and state; relative where a trained network's entries exceed 1.
TOLERANCE = 1e-4
FRAMES = 10
TARGETS = 2
RESTARTS = {4: [1], 7: [0, 1]}  # frame → targets that start anew there

Array = NDArray[np.float32]


@dataclass(frozen=True)
class FrameErrors:
    """The errors of one frame of the rollout, each the largest over its targets."""

    frame: int
    restarted: tuple[int, ...]
    policy_logits: float
    box: float
    temporal_tokens: float

    @property
    def worst(self) -> float:
        """The largest of the three."""
        return max(self.policy_logits, self.box, self.temporal_tokens)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        return asdict(self)


@dataclass
class _Rollout:
    """The same crops through graph and network; each carries its own state."""

    variant: Variant
    window: Array
    graph_state: Array
    network_state: Array
    has_history: Array


def verify_graphs(folder: Path, network: Relo) -> list[FrameErrors]:
    """Errors frame by frame; raises when one is beyond tolerance or the state has no effect."""
    template, step = (open_session(folder / f"{name}.onnx") for name in ("template", "step"))
    variant = network.variant
    crops = _Crops(variant)
    tokens = _compare_templates(template, network, crops)
    window = hann_window(variant.grid, variant.protocol().window_factor)
    # A first frame must ignore whatever the buffers hold.
    garbage = np.full((TARGETS, *variant.state_shape), 1e3, np.float32)
    rollout = _Rollout(variant, window, garbage, garbage.copy(), np.zeros(TARGETS, np.float32))
    errors = []
    for frame, searches in enumerate(crops.searches()):
        restarted = tuple(RESTARTS.get(frame, []))
        rollout.has_history[list(restarted)] = 0
        errors.append(_compare_step(step, network, rollout, tokens, searches, frame, restarted))
        _check_errors(errors[-1])
    _check_state_matters(step, rollout, tokens, searches)
    return errors


class _Crops:
    """Template and search crops of two synthetic clips, around their true boxes."""

    def __init__(self, variant: Variant) -> None:
        self._variant, self._protocol = variant, variant.protocol()
        self._clips = [make_clip(seed, frames=FRAMES) for seed in range(TARGETS)]

    def templates(self) -> tuple[NDArray[np.uint8], Array]:
        """Each clip's first crop, repeated for every template, with its box."""
        size = self._variant.template_size
        crops, boxes = [], []
        for clip in self._clips:
            box = read_box(clip.boxes[0])
            window = place_crop(box, self._protocol.template_factor, size)
            frame = next(iter(clip.frames()))
            crop = crop_into(np.empty((size, size, 3), np.uint8), frame, window)
            crops += [crop] * self._variant.templates
            boxes += [box_in_template(box, window, size)] * self._variant.templates
        return np.stack(crops), np.stack(boxes)

    def searches(self) -> Iterator[NDArray[np.uint8]]:
        """Frame by frame, one search crop of each clip."""
        size, factor = self._variant.search_size, self._protocol.search_factor
        frames = zip(*(clip.frames() for clip in self._clips), strict=True)
        for index, pictures in enumerate(frames):
            crops = np.empty((TARGETS, size, size, 3), np.uint8)
            for crop, clip, picture in zip(crops, self._clips, pictures, strict=True):
                crop_into(crop, picture, place_crop(read_box(clip.boxes[index]), factor, size))
            yield crops


def _compare_templates(session: Any, network: Relo, crops: _Crops) -> Array:
    """Template tokens of both targets, once they agree with the network's."""
    import torch

    pictures, boxes = crops.templates()
    tokens: Array = session.run(None, {"template": pictures, "box": boxes})[0]
    with torch.inference_mode():
        reference = network.encode_template(torch.from_numpy(pictures), torch.from_numpy(boxes))
    error = _relative_error(tokens, reference.numpy())
    if not error <= TOLERANCE:
        raise GateError(
            "template graph differs from the network",
            found=f"{error:.1e}",
            expected=f"{TOLERANCE:.0e}",
        )
    return tokens.reshape(TARGETS, network.variant.template_tokens, network.variant.width)


def _compare_step(
    session: Any,
    network: Relo,
    rollout: _Rollout,
    tokens: Array,
    searches: NDArray[np.uint8],
    frame: int,
    restarted: tuple[int, ...],
) -> FrameErrors:
    import torch

    box, score, logits, state = _run_step(session, rollout, tokens, searches, rollout.graph_state)
    with torch.inference_mode():
        maps, new_state = network(
            *map(torch.from_numpy, (searches, tokens, rollout.network_state, rollout.has_history))
        )
    reference = maps.policy_logits.numpy()
    errors = FrameErrors(
        frame,
        restarted,
        _relative_error(logits, reference),
        _box_error(box, score, maps, rollout),
        _relative_error(state, new_state.numpy()),
    )
    rollout.graph_state, rollout.network_state = state, new_state.numpy()
    rollout.has_history[:] = 1
    return errors


def _run_step(
    session: Any, rollout: _Rollout, tokens: Array, searches: NDArray[np.uint8], state: Array
) -> list[Array]:
    feeds = {
        "search": searches,
        "template_tokens": tokens,
        "temporal_tokens": state,
        "has_history": rollout.has_history,
        "window": rollout.window,
    }
    outputs = ["box", "score", "policy_logits", "temporal_tokens_out"]
    answer: list[Array] = session.run(outputs, feeds)
    return answer


def _box_error(box: Array, score: Array, maps: Any, rollout: _Rollout) -> float:
    """The error of box and score by the maps; any cell that ties within tolerance may win."""
    grid = rollout.variant.grid
    cells = np.stack(np.meshgrid(np.arange(grid), np.arange(grid)))
    centres = (maps.offsets.numpy() + cells) / grid
    every = np.concatenate([centres, maps.sizes.numpy()], axis=1).reshape(len(box), 4, -1)
    windowed = (maps.policy_logits.numpy() * rollout.window).reshape(len(box), -1)
    best = windowed.max(axis=1, keepdims=True)
    scale = np.maximum(1, np.abs(windowed).max(axis=1, keepdims=True))
    tied = windowed >= best - TOLERANCE * scale
    distance = np.abs(every - box[:, :, None]).max(axis=1)
    nearest = np.where(tied, distance, np.inf).min(axis=1)
    return float(max(nearest.max(), (np.abs(score - best[:, 0]) / scale[:, 0]).max()))


def _check_errors(errors: FrameErrors) -> None:
    # `not <=` also catches NaN.
    if not errors.worst <= TOLERANCE:
        found = {k: f"{v:.1e}" for k, v in errors.to_dict().items() if isinstance(v, float)}
        raise GateError(
            f"step graph differs from the network in frame {errors.frame}",
            found=", ".join(f"{name} {value}" for name, value in found.items()),
            expected=f"at most {TOLERANCE:.0e}",
            fix="this is a fault of the export; nothing was published",
        )


def _check_state_matters(
    session: Any, rollout: _Rollout, tokens: Array, searches: NDArray[np.uint8]
) -> None:
    """Swap the states: a state that constant folding removed would pass all other checks."""
    logits = _run_step(session, rollout, tokens, searches, rollout.graph_state)[2]
    other = _run_step(session, rollout, tokens, searches, rollout.graph_state[::-1].copy())[2]
    if np.array_equal(logits, other):
        raise GateError(
            "step graph ignores temporal_tokens", found="the same logits for two states"
        )


def _relative_error(got: Array, reference: Array) -> float:
    scale = max(1.0, float(np.abs(reference).max()))
    return float(np.abs(got - reference).max()) / scale
