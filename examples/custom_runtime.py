"""A runtime of your own: the two graphs on any engine, here plain onnxruntime sessions.

Trackers, `parity` and `bench` need no more than these methods. `python custom_runtime.py`
"""

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from relo_edge import Bundle, InputError, StepResult, Tracker, open_bundle, open_runtime, read_live
from relo_edge.pipeline import inspect_bundle

SOURCE, BOX, FRAMES = "demo", (179, 94, 73, 55), 20
OUTPUTS = ["box", "score", "policy_logits", "temporal_tokens_out"]
Floats = NDArray[np.float32]


class MyRuntime(ExitStack):  # has `close`; what an engine must give back goes to `self.callback`
    """One target in slot 0; its template tokens and temporal tokens are kept between calls."""

    name, precision, device, batch = "mine", "fp32", "cpu", 1

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.variant = bundle.variant
        paths = (str(bundle.graph(name)) for name in ("template", "step"))
        self._template, self._step = (onnxruntime.InferenceSession(path) for path in paths)
        self._tokens = np.zeros((1, self.variant.template_tokens, self.variant.width), np.float32)
        self.forget(0)

    def encode_template(
        self, slot: int, index: int, template: NDArray[np.uint8], box: Floats
    ) -> None:
        (tokens,) = self._template.run(None, {"template": template[None], "box": box[None]})
        rows = tokens.shape[1]
        self._tokens[:, index * rows : (index + 1) * rows] = tokens

    def forget(self, slot: int) -> None:
        self._state = np.zeros((1, *self.variant.state_shape), np.float32)
        self._history = np.zeros(1, np.float32)

    def rewind(self, slot: int) -> None:
        self._state, self._history = self._before

    def set_target(self, slot: int, name: str, values: Floats) -> None:
        raise InputError("target tensor", found=name, expected="none: the templates say all")

    def step(
        self, slots: Sequence[int], pixels: NDArray[np.uint8], shared: Floats | None
    ) -> StepResult:
        self._before = self._state, self._history
        feeds = {"search": pixels, "template_tokens": self._tokens, "window": shared}
        feeds |= {"temporal_tokens": self._state, "has_history": self._history}
        boxes, scores, logits, self._state = self._step.run(OUTPUTS, feeds)
        self._history = np.ones(1, np.float32)
        return StepResult(boxes, scores, logits)

    def read_state(self, slot: int) -> dict[str, Floats]:
        return {"temporal_tokens": self._state[0].copy()}


def main() -> None:
    """Track the same clip with this runtime and with ours: the boxes are the same."""
    bundle = open_bundle(inspect_bundle("demo").path)  # of yours: open_bundle("relo-t256")
    for runtime in (MyRuntime(bundle), open_runtime(bundle, "onnxruntime")):
        with runtime, read_live(SOURCE) as frames:
            tracker = Tracker(runtime, color="bgr")
            tracker.init(next(frames).image, BOX)
            *_, last = (tracker.update(frame.image) for frame in islice(frames, FRAMES))
            print(runtime.name, [round(value, 1) for value in last.box])


if __name__ == "__main__":
    main()
