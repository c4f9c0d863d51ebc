"""The recording runtime: transparent to its tracker, and true about tokens, history and slots."""

import numpy as np
import pytest
from clips import StillRuntime

from relo_edge.calibration.recording_runtime import RecordingRuntime
from relo_edge.calibration.samples import create_samples, read_array, read_samples
from relo_edge.spec import VARIANTS

B256 = VARIANTS["b256"]


class TwoTemplates(StillRuntime):
    """Its state is always the number of steps so far."""

    variant = B256

    def __init__(self):
        super().__init__()
        self.steps = 0

    def step(self, slots, searches, window):
        self.steps += 1
        return super().step(slots, searches, window)

    def rewind(self, slot):
        self.steps -= 1

    def read_state(self, slot):
        return {"temporal_tokens": np.full(B256.state_shape, self.steps, np.float32)}


def encode_brightness(feeds):
    shape = (1, B256.tokens_per_template, B256.width)
    return {"template_tokens": np.full(shape, feeds["template"].mean(), np.float32)}


def show_template(runtime, index, brightness):
    template = np.full((128, 128, 3), brightness, np.uint8)
    runtime.encode_template(0, index, template, np.zeros(4, np.float32))


def test_tokens_and_history_are_those_of_the_moment(tmp_path):
    searches, window = np.zeros((1, 256, 256, 3), np.uint8), np.ones((16, 16), np.float32)
    below = TwoTemplates()
    with create_samples(tmp_path / "run.npz") as writer:
        runtime = RecordingRuntime(below, encode_brightness, writer)
        for index, brightness in ((0, 10), (1, 20), (None, 0), (1, 30), (None, 0)):
            if index is None:
                answer = runtime.step([0], searches, window)
            else:
                show_template(runtime, index, brightness)
        runtime.forget(0)
        runtime.step([0], searches, window)
    assert answer.boxes.tolist() == [[0.5, 0.5, 0.25, 0.25]]
    templates = list(read_samples(tmp_path / "run.npz", "template"))
    assert [int(feeds["template"].mean()) for feeds in templates] == [10, 20, 30]
    steps = list(read_samples(tmp_path / "run.npz", "step"))
    tokens = [feeds["template_tokens"].reshape(2, -1) for feeds in steps]
    assert [np.unique(rows, axis=1).ravel().tolist() for rows in tokens] == [
        [10, 20],
        [10, 30],
        [10, 30],
    ]
    assert [feeds["has_history"].tolist() for feeds in steps] == [[0], [1], [0]]
    # The third is a first frame again: whatever the runtime still holds is none of its history.
    assert [feeds["temporal_tokens"].max() for feeds in steps] == [0, 1, 0]


def test_a_step_taken_back_is_none_for_the_next(tmp_path):
    searches, window = np.zeros((1, 256, 256, 3), np.uint8), np.ones((16, 16), np.float32)
    with create_samples(tmp_path / "run.npz") as writer:
        runtime = RecordingRuntime(TwoTemplates(), encode_brightness, writer)
        for back in (True, False, True, False):
            runtime.step([0], searches, window)
            if back:
                runtime.rewind(0)
    steps = list(read_samples(tmp_path / "run.npz", "step"))
    assert [feeds["has_history"].item() for feeds in steps] == [0, 0, 1, 1]
    assert [feeds["temporal_tokens"].max() for feeds in steps] == [0, 0, 1, 1]


def test_the_runtime_below_stays_open(tmp_path):
    below = StillRuntime()
    with create_samples(tmp_path / "run.npz") as writer:
        RecordingRuntime(below, encode_brightness, writer).close()
    assert not below.closed


def test_samples_come_back_in_order(tmp_path):
    path = tmp_path / "run.npz"
    with create_samples(path) as writer:
        writer.write_array("boxes", np.arange(8.0).reshape(2, 4))
        for index in range(12):
            writer.write_sample("step", {"a": np.array([index]), "b": np.array([-index], np.int8)})
            writer.write_sample("template", {"a": np.array([100 + index])})
    steps = list(read_samples(path, "step"))
    assert [feeds["a"].item() for feeds in steps] == list(range(12))
    assert {feeds["b"].dtype for feeds in steps} == {np.dtype(np.int8)}
    assert [feeds["a"].item() for feeds in read_samples(path, "template")] == list(range(100, 112))
    assert read_array(path, "boxes").tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_file_that_was_not_finished_is_none(tmp_path, error):
    path = tmp_path / "run.npz"
    path.write_bytes(b"from before")

    def break_off():
        with create_samples(path) as writer:
            writer.write_array("boxes", np.zeros(4))
            raise error

    with pytest.raises(error):
        break_off()
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.npz"]
    assert path.read_bytes() == b"from before"
