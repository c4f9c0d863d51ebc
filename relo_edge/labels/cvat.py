"""CVAT's XML 1.1 for videos: one `<track>` a target."""

from __future__ import annotations

from xml.etree import ElementTree

from relo_edge.labels.rows import LabelledBox, LabelledTarget, Labels

__all__ = ["format_cvat"]


def format_cvat(labels: Labels) -> str:
    """The file's text; CVAT reads it into a task whose labels have these names."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    _add_meta(root, labels)
    for number, target in enumerate(labels.targets):
        _add_track(root, number, target, labels.last_frame)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, "unicode")}\n'


def _add_meta(root: ElementTree.Element, labels: Labels) -> None:
    clip = labels.clip
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    ElementTree.SubElement(task, "name").text = clip.name
    ElementTree.SubElement(task, "size").text = str(labels.last_frame + 1)
    ElementTree.SubElement(task, "mode").text = "interpolation"
    named = ElementTree.SubElement(task, "labels")
    for name in labels.names:
        label = ElementTree.SubElement(named, "label")
        ElementTree.SubElement(label, "name").text = name
    size = ElementTree.SubElement(task, "original_size")
    for key, value in zip(("width", "height"), clip.size, strict=True):
        ElementTree.SubElement(size, key).text = str(value)


def _add_track(
    root: ElementTree.Element, number: int, target: LabelledTarget, last_frame: int
) -> None:
    track = ElementTree.SubElement(
        root, "track", {"id": str(number), "label": target.label, "source": "auto"}
    )
    for box in target.boxes:
        _add_box(track, box)
    last = target.boxes[-1]
    if last.visible and last.frame < last_frame:
        # CVAT shows a box until it is told that the target has left.
        _add_box(track, last._replace(frame=last.frame + 1, visible=False))


def _add_box(track: ElementTree.Element, box: LabelledBox) -> None:
    x, y, width, height = box.box
    corners = {"xtl": x, "ytl": y, "xbr": x + width, "ybr": y + height}
    flags = {"outside": int(not box.visible), "occluded": 0, "keyframe": 1}
    ElementTree.SubElement(
        track,
        "box",
        {
            "frame": str(box.frame),
            **{key: f"{value:.3f}" for key, value in corners.items()},
            **{key: str(flag) for key, flag in flags.items()},
            "z_order": "0",
        },
    )
