"""Draw tracks with roboflow's annotators: `python draw_with_supervision.py [OUTPUT.png]`.

Needs, in the checkout, `pip install '.[adapters]'`.
"""

import sys

import cv2
import supervision as sv

from relo_edge import Tracker, open_runtime, read_live
from relo_edge.adapters import track_to_detections

SOURCE, BOX = "demo", (179, 94, 73, 55)


def main(output: str = "tracks.png") -> None:
    """Follow a synthetic target and keep the last picture, with box, label and trace."""
    annotators = (sv.BoxAnnotator(), sv.LabelAnnotator(), sv.TraceAnnotator())
    with open_runtime("demo") as runtime, read_live(SOURCE) as frames:
        tracker = Tracker(runtime, color="bgr")
        tracker.init(next(frames).image, BOX)
        for frame in frames:
            found = track_to_detections({"ball": tracker.update(frame.image)})
            picture = frame.image.copy()
            for annotator in annotators:
                picture = annotator.annotate(picture, found)
    cv2.imwrite(output, picture)
    print(f"wrote {output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
