"""An open-vocabulary detector of the transformers package: Grounding DINO, OWL-ViT or OWLv2."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import FinderError, InputError, MissingDependency
from relo_edge.finder.chat import quote
from relo_edge.geometry import Box, clip_to_picture, is_usable
from relo_edge.host.telemetry import import_silenced

__all__ = ["LocalDetector"]

SURE = 0.1
"""The score below which the best box is no finding."""


class LocalDetector:
    """A detector in this process: no picture leaves it."""

    def __init__(self, model: str) -> None:
        self._torch, library = _import_transformers()
        try:
            self._processor: Any = library.AutoProcessor.from_pretrained(model)
            network: Any = library.AutoModelForZeroShotObjectDetection.from_pretrained(model)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise InputError(
                f"detector {model!a} cannot be read",
                found=quote(error),
                expected="a folder or name of Grounding DINO, OWL-ViT or OWLv2",
            ) from None
        self._network = network.eval()

    def find(self, frame: NDArray[np.uint8], words: str) -> Box:
        """The box that scores best."""
        picture = np.ascontiguousarray(frame[..., ::-1])
        size = (frame.shape[1], frame.shape[0])
        score, corners = self._detect(picture, words)
        if not score >= SURE:
            raise FinderError(
                "the detector sees no such target",
                found=f"a best score of {score:.2f}",
                expected=f"{SURE} or more",
            )
        left, top, right, bottom = corners
        box = clip_to_picture((left, top, right - left, bottom - top), size)
        if not is_usable(box):
            raise FinderError(
                "the detector's box is too small to follow", found=f"{box[2]:.1f}x{box[3]:.1f}"
            )
        return box

    def _detect(self, picture: NDArray[np.uint8], words: str) -> tuple[float, list[float]]:
        """Score and corners of the best box, in the picture's pixels."""
        phrase = words.lower().rstrip(". ")
        dino = "dino" in self._network.config.model_type
        text: Any = f"{phrase}." if dino else [[phrase]]
        feeds = self._processor(images=picture, text=text, return_tensors="pt", truncation=True)
        with self._torch.inference_mode():
            found = self._network(**feeds)
        options: dict[str, Any] = {"threshold": 0.0, "target_sizes": [picture.shape[:2]]}
        if dino:
            options |= {"input_ids": feeds["input_ids"], "text_threshold": 0.0}
        (boxes,) = self._processor.post_process_grounded_object_detection(found, **options)
        if not len(boxes["scores"]):
            return 0.0, [0.0] * 4
        best = int(boxes["scores"].argmax())
        return float(boxes["scores"][best]), [float(value) for value in boxes["boxes"][best]]


def _import_transformers() -> tuple[Any, Any]:
    try:
        torch, transformers = import_silenced("torch"), import_silenced("transformers")
    except ImportError as error:
        raise MissingDependency(
            f"`--finder transformers:` needs {error.name}, which is not installed",
            fix="`pip install transformers torch pillow`",
        ) from None
    return torch, transformers
