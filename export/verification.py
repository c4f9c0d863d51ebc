"""Proof before publishing: the exported graphs against the reference network over a rollout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import STEP, TEMPLATE, GraphContract, describe_graph, list_graphs
from relo_edge.errors import GateError
from relo_edge.families.motion import Motion, RgbCropper
from relo_edge.families.registry import find_family
from relo_edge.geometry import read_box
from relo_edge.graphs.sessions import open_session
from relo_edge.spec import TrackerVariant
from relo_edge.synthetic.clip import make_clip

if TYPE_CHECKING:
    from relo_edge.families.family import ReferenceNetwork

__all__ = ["TOLERANCE", "FrameErrors", "verify_graphs"]

# Of maps, boxes and state; relative where a trained network's entries exceed 1.
TOLERANCE = 1e-4
FRAMES = 10
TARGETS = 2
RESTARTS = {4: [1], 7: [0, 1]}  # frame → targets that start anew there

Array = NDArray[np.float32]
Outputs = dict[str, Array]


@dataclass(frozen=True)
class FrameErrors:
    """The errors of one frame of the rollout by tensor, each the largest over its targets."""

    frame: int
    restarted: tuple[int, ...]
    errors: Mapping[str, float]

    @property
    def worst(self) -> float:
        """The largest; NaN if one is."""
        return float(np.max(list(self.errors.values())))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        return {"frame": self.frame, "restarted": self.restarted, **self.errors}


@dataclass
class _Rollout:
    """The same pictures through graph and network; each carries its own state."""

    contract: GraphContract
    targets: Outputs
    shared: Array | None
    graph_state: Outputs
    network_state: Outputs
    has_history: Array

    def list_feeds(self, pixels: NDArray[np.uint8], state: Outputs) -> dict[str, NDArray[Any]]:
        """What a step is fed, by role."""
        feeds: dict[str, NDArray[Any]] = {self.contract.pixels.name: pixels}
        feeds |= self.targets | state
        feeds |= {spec.name: self.has_history for spec in self.contract.list_inputs("fresh")}
        if self.shared is not None:
            feeds |= {spec.name: self.shared for spec in self.contract.list_inputs("shared")}
        return feeds

    def carry(self, outputs: Outputs) -> Outputs:
        """The state of the next step."""
        return {s.before.name: outputs[s.after.name] for s in self.contract.states}


def verify_graphs(
    folder: Path, variant: TrackerVariant, network: ReferenceNetwork
) -> list[FrameErrors]:
    """Errors frame by frame; raises when one is beyond tolerance or the state has no effect."""
    sessions = {name: open_session(folder / f"{name}.onnx") for name in list_graphs(variant)}
    step, contract = sessions[STEP], describe_graph(variant, STEP)
    motion = find_family(variant.family).motion(variant, variant.protocol())
    views = _Views(motion)
    targets = _describe_targets(contract, views)
    if TEMPLATE in sessions:
        targets |= _compare_templates(variant, sessions[TEMPLATE], network, views)
    # A first frame must ignore whatever the buffers hold.
    garbage = {
        s.before.name: np.full(s.before.at_batch(TARGETS), 1e3, np.float32) for s in contract.states
    }
    history = np.zeros(TARGETS, np.float32)
    rollout = _Rollout(contract, targets, motion.shared, garbage, dict(garbage), history)
    errors = []
    for frame, pixels in enumerate(views.pixels()):
        restarted = tuple(RESTARTS.get(frame, []))
        rollout.has_history[list(restarted)] = 0
        errors.append(_compare_step(step, network, rollout, pixels, frame, restarted))
        _check_errors(errors[-1])
    _check_state_matters(step, rollout, pixels)
    return errors


class _Views:
    """Template and step pixels of two synthetic clips, around their true boxes."""

    def __init__(self, motion: Motion) -> None:
        self.motion = motion
        self.clips = [make_clip(seed, frames=FRAMES) for seed in range(TARGETS)]

    def templates(self) -> tuple[NDArray[np.uint8], Array]:
        """Each clip's first crop, repeated for every template, with its box."""
        crops, boxes = [], []
        for clip in self.clips:
            frame, crop = next(iter(clip.frames())), np.empty(self.motion.template_pixels, np.uint8)
            box = self.motion.crop_template(crop, frame, read_box(clip.boxes[0]), RgbCropper())
            crops += [crop] * self.motion.templates
            boxes += [box] * self.motion.templates
        return np.stack(crops), np.stack(boxes)

    def pixels(self) -> Iterator[NDArray[np.uint8]]:
        """Frame by frame, what a step is fed of each clip."""
        frames = zip(*(clip.frames() for clip in self.clips), strict=True)
        for index, pictures in enumerate(frames):
            pixels = np.empty((TARGETS, *self.motion.pixels), np.uint8)
            for view, clip, picture in zip(pixels, self.clips, pictures, strict=True):
                box = read_box(clip.boxes[index])
                self.motion.fill_pixels(view, picture, box, 1.0, RgbCropper())
            yield pixels


def _describe_targets(contract: GraphContract, views: _Views) -> Outputs:
    """The target tensors that no graph makes: the first target's own, the second's disturbed."""
    size = views.clips[0].size
    told = [views.motion.describe_target(read_box(c.boxes[0]), size) for c in views.clips]
    noise = np.random.default_rng(0)
    found = {}
    for spec in contract.list_inputs("target"):
        if spec.name in told[0]:
            found[spec.name] = np.stack([one[spec.name] for one in told])
            found[spec.name][1] += noise.normal(0, 0.1, spec.at_batch(1)[1:]).astype(np.float32)
    return found


def _compare_templates(
    variant: TrackerVariant, session: Any, network: ReferenceNetwork, views: _Views
) -> Outputs:
    """What the template graph makes of both targets, once it agrees with the network's."""
    import torch

    contract = describe_graph(variant, TEMPLATE)
    pictures, boxes = views.templates()
    (given,) = contract.list_inputs("given")
    names = [spec.name for spec in contract.outputs]
    made = session.run(names, {contract.pixels.name: pictures, given.name: boxes})
    with torch.inference_mode():
        reference = network.encode_template(torch.from_numpy(pictures), torch.from_numpy(boxes))
    found = {}
    for name, part in zip(names, made, strict=True):
        error = _relative_error(part, reference[name].numpy())
        if not error <= TOLERANCE:
            raise GateError(
                "template graph differs from the network",
                found=f"{error:.1e}",
                expected=f"{TOLERANCE:.0e}",
            )
        found[name] = part.reshape(TARGETS, -1, *part.shape[2:])
    return found


def _compare_step(
    session: Any,
    network: ReferenceNetwork,
    rollout: _Rollout,
    pixels: NDArray[np.uint8],
    frame: int,
    restarted: tuple[int, ...],
) -> FrameErrors:
    import torch

    contract = rollout.contract
    got = _run_step(session, rollout, pixels, rollout.graph_state)
    with torch.inference_mode():
        feeds = rollout.list_feeds(pixels, rollout.network_state)
        answer = network.step({name: torch.from_numpy(array) for name, array in feeds.items()})
    want = {name: tensor.numpy() for name, tensor in answer.items()}
    errors = {
        s.name: _relative_error(got[s.name], want[s.name]) for s in contract.list_outputs("map")
    }
    errors["box"] = _box_error(contract, got, want, rollout.shared)
    for state in contract.states:
        name = state.after.name
        errors[state.before.name] = _relative_error(got[name], want[name])
    rollout.graph_state, rollout.network_state = rollout.carry(got), rollout.carry(want)
    rollout.has_history[:] = 1
    return FrameErrors(frame, restarted, errors)


def _run_step(
    session: Any, rollout: _Rollout, pixels: NDArray[np.uint8], state: Outputs
) -> Outputs:
    names = [spec.name for spec in rollout.contract.outputs]
    answer = session.run(names, rollout.list_feeds(pixels, state))
    return dict(zip(names, answer, strict=True))


def _box_error(contract: GraphContract, got: Outputs, want: Outputs, window: Array | None) -> float:
    """The error of box and score; with a map, any cell that ties within tolerance may win."""
    (box,) = contract.list_outputs("box")
    score, cells = contract.find_output("score"), contract.find_output("map")
    if cells is None or score is None or window is None:
        plain = contract.list_outputs("box", "score")
        return max(_relative_error(got[s.name], want[s.name]) for s in plain)
    grid = window.shape[0]
    places = np.stack(np.meshgrid(np.arange(grid), np.arange(grid)))
    centres = (want["offsets"] + places) / grid
    boxes = got[box.name]
    every = np.concatenate([centres, want["sizes"]], axis=1).reshape(len(boxes), 4, -1)
    windowed = (want[cells.name] * window).reshape(len(boxes), -1)
    best = windowed.max(axis=1, keepdims=True)
    scale = np.maximum(1, np.abs(windowed).max(axis=1, keepdims=True))
    tied = windowed >= best - TOLERANCE * scale
    distance = np.abs(every - boxes[:, :, None]).max(axis=1)
    nearest = np.where(tied, distance, np.inf).min(axis=1)
    return float(max(nearest.max(), (np.abs(got[score.name] - best[:, 0]) / scale[:, 0]).max()))


def _check_errors(errors: FrameErrors) -> None:
    # `not <=` also catches NaN.
    if not errors.worst <= TOLERANCE:
        raise GateError(
            f"step graph differs from the network in frame {errors.frame}",
            found=", ".join(f"{name} {value:.1e}" for name, value in errors.errors.items()),
            expected=f"at most {TOLERANCE:.0e}",
            fix="this is a fault of the export; nothing was published",
        )


def _check_state_matters(session: Any, rollout: _Rollout, pixels: NDArray[np.uint8]) -> None:
    """Swap each state: one that constant folding removed would pass all other checks."""
    told = rollout.contract.find_output("map") or rollout.contract.list_outputs("box")[0]
    right = _run_step(session, rollout, pixels, rollout.graph_state)[told.name]
    for state in rollout.contract.states:
        name = state.before.name
        swapped = rollout.graph_state | {name: rollout.graph_state[name][::-1].copy()}
        if np.array_equal(right, _run_step(session, rollout, pixels, swapped)[told.name]):
            raise GateError(
                f"step graph ignores {name}", found=f"the same {told.name} for two states"
            )


def _relative_error(got: Array, reference: Array) -> float:
    scale = max(1.0, float(np.abs(reference).max()))
    return float(np.abs(got - reference).max()) / scale
