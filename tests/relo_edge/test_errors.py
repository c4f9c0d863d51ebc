"""The one form that every error line has, and the check that the whole suite runs under."""

import pytest
from error_form import find_faults

from relo_edge.errors import InputError, ReloError


def test_a_message_has_its_parts_in_order():
    error = InputError("batch", found=0, expected="1 or more", fix="give --batch 1")
    assert str(error) == "batch: found 0, expected 1 or more; give --batch 1"
    assert str(ReloError("the disk is full")) == "the disk is full"
    assert str(ReloError("clip", expected="a video")) == "clip: expected a video"


def test_line_breaks_in_what_was_found_do_not_break_the_line():
    assert str(ReloError("graph", found="two\nlines\n")) == "graph: found two lines"


@pytest.mark.parametrize(
    "message",
    [
        "batch: found 0, expected 1 or more",
        "TensorRT is not installed; `pip install 'relo-edge[tensorrt]'`",
        "INT8 is not offered: found fp16",
        "/tmp/x.onnx is not the file that its manifest describes",
    ],
)
def test_a_correct_line_has_no_faults(message):
    assert find_faults(message) == []


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("", "one line"),
        ("two\nlines", "one line"),
        ("The bundle is damaged", "capital"),
        ("bundle is damaged.", "punctuation"),
        ("clip: found found twice", "doubled"),
        ("export: found no torch, expected it", "pronoun"),
        ("clip: found , expected a video", "says nothing"),
        ("clip: found None", "says nothing"),
        ("it broke: Traceback (most recent call last)", "traceback"),
    ],
)
def test_each_fault_is_found(message, fault):
    assert any(fault in found for found in find_faults(message))
