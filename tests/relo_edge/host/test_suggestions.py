"""A mistyped word is answered with the nearest known one, or not at all."""

import pytest

from relo_edge.errors import InputError
from relo_edge.host.suggestions import check_word


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("openvinno", "; did you mean openvino?"),
        ("OpenVINO", "; did you mean openvino?"),
        ("zzz", ""),
    ],
)
def test_the_nearest_word_is_suggested(word, answer):
    with pytest.raises(InputError) as told:
        check_word("runtime", word, ["onnxruntime", "openvino"])
    found = f"runtime: found {word}, expected onnxruntime | openvino"
    assert str(told.value) == f"{found}{answer}"


def test_a_known_word_passes():
    check_word("runtime", "openvino", ["onnxruntime", "openvino"])
