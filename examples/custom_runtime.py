"""A runtime of your own: the two graphs on any engine, here plain onnxruntime sessions.

Trackers, `parity` and `bench` need no more than these methods. `python custom_runtime.py`
"""

import numpy as np
import onnxruntime

from relo_edge import StepResult, Tracker, open_bundle, open_runtime
from relo_edge.synthetic.clip import make_clip

OUTPUTS = ["box", "score", "policy_logits", "temporal_tokens_out"]


class MyRuntime:
    """One target; its template tokens and temporal tokens are kept between calls."""

    name, precision, device, batch = "mine", "fp32", "cpu", 1

    def __init__(self, folder):
        bundle = open_bundle(folder)
        self.variant = bundle.variant
        self._template, self._step = (
            onnxruntime.InferenceSession(str(bundle.graph(name, "fp32")))
            for name in ("template", "step")
        )
        self.forget(0)

    def encode_template(self, slot, index, template, box):
        """`index` counts the variant's templates; this example keeps one."""
        (self._tokens,) = self._template.run(None, {"template": template[None], "box": box[None]})

    def forget(self, slot):
        self._state = self._before = np.zeros((1, *self.variant.state_shape), np.float32)
        self._history = np.zeros(1, np.float32)

    def rewind(self, slot):
        self._state = self._before

    def step(self, slots, searches, window):
        self._before = self._state
        feeds = {
            "search": searches,
            "template_tokens": np.tile(self._tokens, (1, self.variant.templates, 1)),
            "temporal_tokens": self._state,
            "has_history": self._history,
            "window": window,
        }
        boxes, scores, logits, self._state = self._step.run(OUTPUTS, feeds)
        self._history = np.ones(1, np.float32)
        return StepResult(boxes, scores, logits)


def main():
    clip = make_clip(3, 20, (320, 240))
    with open_runtime("demo", "onnxruntime") as theirs:
        for runtime in (MyRuntime(theirs.bundle_path), theirs):
            tracker = Tracker(runtime, color="bgr")
            frames = clip.frames()
            tracker.init(next(frames), tuple(clip.boxes[0].tolist()))
            *_, last = (tracker.update(frame) for frame in frames)
            print(runtime.name, [round(value, 3) for value in last.box])


if __name__ == "__main__":
    main()
