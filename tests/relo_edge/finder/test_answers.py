"""A model's answer is read exactly or not at all."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relo_edge.errors import FinderError
from relo_edge.finder.answers import read_box_answer, read_boxes_answer

BOX = (12.0, 30.0, 88.5, 91.0)

FORMS = {
    "bare list": "[12, 30, 88.5, 91]",
    "without brackets": " 12, 30, 88.5, 91\n",
    "object": '{"bbox_2d": [12, 30, 88.5, 91]}',
    "labelled": '[{"bbox_2d": [12, 30, 88.5, 91], "label": "red car"}]',
    "other key": '{"box": [12, 30, 88.5, 91]}',
    "box in a list": "[[12, 30, 88.5, 91]]",
    "fenced": '```json\n[{"bbox_2d": [12, 30, 88.5, 91], "label": "car"}]\n```',
    "fenced in prose": "Here it is:\n```\n[12, 30, 88.5, 91]\n```\nI hope this helps.",
    "thinking": "<think>maybe [1, 2, 3, 4]?</think><answer>[12, 30, 88.5, 91]</answer>",
    "thinking without answer": "<think>[1,2,3,4]</think>\n[12, 30, 88.5, 91]",
    "thoughts whose start the server ate": "so [1,2,3,4] then</think>[12,30,88.5,91]",
    "fenced answer": '<answer>```json\n{"bbox_2d": [12,30,88.5,91]}\n```</answer>',
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_each_form_is_read(text):
    assert read_box_answer(text) == BOX


REFUSED = {
    "nothing": "",
    "prose": "The red car is in the middle.",
    "prose with a box": "It is at [12, 30, 88, 91].",
    "question repeated": "specified by the bounding box [1,2,30,40] in the first image",
    "thoughts alone": "<think>maybe [1, 2, 3, 4]",
    "empty answer": "<think>[1,2,3,4]</think><answer></answer>",
    "two fenced blocks": "```\n[1,2,3,4]\n```\n```\n[5,6,7,8]\n```",
    "fence without an end": "```json\n[1,2,3,4]",
    "NaN": "[NaN, 30, 88, 91]",
    "infinite": "[12, 30, Infinity, 91]",
    "a thousand digits": f"[1, 2, {'9' * 1000}, 4]",
    "more digits than Python reads": f"[1, 2, {'9' * 9000}, 4]",
    "words for numbers": '["12", "30", "88", "91"]',
    "booleans": "[true, false, true, true]",
    "three": "[12, 30, 88]",
    "five": "[12, 30, 88, 91, 0.9]",
    "no area": "[12, 30, 12, 91]",
    "turned round": "[88, 91, 12, 30]",
    "other object": '{"error": "overloaded"}',
    "two keys": '{"box": [1,2,3,4], "bbox": [1,2,3,4]}',
    "number": "7",
    "word": '"[12, 30, 88, 91]"',
    "null": "null",
    "mixed": "[[1,2,3,4], 5]",
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_is_no_box_is_refused(text):
    with pytest.raises(FinderError, match="the finder's answer: found .*, expected a box") as told:
        read_box_answer(text)
    assert len(str(told.value)) < 300


@pytest.mark.parametrize("text", ["[]", "null_", '{"bbox_2d": null}', '{"bbox_2d": []}'])
def test_a_target_that_is_not_there(text):
    if text == "null_":
        text = '[{"bbox_2d": null}]'
    with pytest.raises(FinderError, match="the model sees no such target"):
        read_box_answer(text)


def test_several_boxes_are_counted():
    text = '[{"bbox_2d": [1,2,3,4]}, {"bbox_2d": [5,6,7,8]}]'
    assert read_boxes_answer(text) == [(1, 2, 3, 4), (5, 6, 7, 8)]
    with pytest.raises(FinderError, match="found 2 boxes, expected a single box; describe"):
        read_box_answer(text)


@pytest.mark.slow
@given(st.text() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_a_box_or_a_line(text):
    try:
        left, top, right, bottom = read_box_answer(text)
    except FinderError:
        return
    assert left < right
    assert top < bottom
