"""Boxes in a model's answer: four exact forms, and nothing that merely resembles one."""

from __future__ import annotations

import json
from typing import Any

from relo_edge.errors import FinderError
from relo_edge.finder.chat import quote

__all__ = ["Corners", "read_box_answer", "read_boxes_answer"]

Corners = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in the model's own units."""

BOX_KEYS = ("bbox_2d", "bbox", "box")
FENCE = "```"
LARGEST = 1e6


def read_box_answer(answer: str) -> Corners:
    """The one box of an answer."""
    boxes = read_boxes_answer(answer)
    if not boxes:
        raise FinderError("the model sees no such target", fix="use other words")
    if len(boxes) > 1:
        raise FinderError(
            "the finder's answer",
            found=f"{len(boxes)} boxes",
            expected="a single box",
            fix="describe the target so that no other fits",
        )
    return boxes[0]


def read_boxes_answer(answer: str) -> list[Corners]:
    """The boxes of an answer in JSON, fenced JSON, a bare list, or `<answer>` after `<think>`.

    Prose, a repeated question and numbers that make no box are refused.
    """
    try:
        return _read_value(_read_json(_take_answer(answer)))
    except (ValueError, RecursionError):
        raise FinderError(
            "the finder's answer",
            found=quote(answer) if answer.strip() else "nothing",
            expected="a box as x_min, y_min, x_max, y_max",
        ) from None


def _take_answer(answer: str) -> str:
    """What is left without thoughts, tags and fences."""
    text = answer.rpartition("</think>")[2]
    if "<think>" in text:
        raise ValueError("thoughts without an end")
    if "<answer>" in text:
        text = text.rpartition("<answer>")[2].partition("</answer>")[0]
    if FENCE in text:
        pieces = text.split(FENCE)
        if len(pieces) != 3:
            raise ValueError("one fenced block and no more")
        text = pieces[1]
        text = text.removeprefix("json").removeprefix("JSON")
    if not text.strip():
        raise ValueError("nothing")
    return text.strip()


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return json.loads(f"[{text}]")


def _read_value(value: Any) -> list[Corners]:
    if isinstance(value, dict):
        held = [value[key] for key in BOX_KEYS if key in value]
        if len(held) != 1:
            raise ValueError("one box under one name")
        return [] if held[0] is None else _read_value(held[0])
    if not isinstance(value, list):
        raise ValueError("neither list nor object")
    if value and not any(isinstance(item, list | dict) for item in value):
        return [_read_corners(value)]
    return [box for item in value for box in _read_value(item)]


def _read_corners(numbers: list[Any]) -> Corners:
    if len(numbers) != 4 or not all(_is_number(number) for number in numbers):
        raise ValueError("four finite numbers")
    left, top, right, bottom = (float(number) for number in numbers)
    if right <= left or bottom <= top:
        raise ValueError("an area")
    return (left, top, right, bottom)


def _is_number(value: object) -> bool:
    """So written that NaN is none, and an integer of a thousand digits neither."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
