"""A mistyped word is answered with the nearest known one, or not at all."""

import pytest

from relo_edge.host.suggestions import suggest_word


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("openvinno", "did you mean openvino?"),
        ("OpenVINO", "did you mean openvino?"),
        ("zzz", None),
        ("", None),
    ],
)
def test_the_nearest_word_is_suggested(word, answer):
    assert suggest_word(word, ["onnxruntime", "openvino"]) == answer
