"""Draw tracks with roboflow's annotators: `python draw_with_supervision.py [OUTPUT.png]`.

Needs, in the checkout, `pip install '.[adapters]'`.
"""

import sys

import cv2
import supervision as sv

from relo_edge import Tracker, open_runtime
from relo_edge.adapters import track_to_detections
from relo_edge.synthetic.clip import make_clip


def main(output: str = "tracks.png") -> None:
    """Follow a synthetic target and keep the last picture, with box, label and trace."""
    clip = make_clip(3, 30, (640, 480))
    annotators = (sv.BoxAnnotator(), sv.LabelAnnotator(), sv.TraceAnnotator())
    with open_runtime("demo") as runtime:
        tracker = Tracker(runtime, color="bgr")
        frames = clip.frames()
        x, y, width, height = clip.boxes[0].tolist()
        tracker.init(next(frames), (x, y, width, height))
        for frame in frames:
            found = track_to_detections({"ball": tracker.update(frame)})
            picture = frame.copy()
            for annotator in annotators:
                picture = annotator.annotate(picture, found)
    cv2.imwrite(output, picture)
    print(f"wrote {output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
