"""Track a video into labels that people correct: `python labels_for_cvat.py [VIDEO X,Y,W,H]`.

In CVAT: make a task from the video with the label that the target is called, then
Upload annotations → CVAT 1.1 → labels.xml. The other two files do the same for Label Studio
(as predictions) and for whatever reads COCO.
"""

import sys
from pathlib import Path

from relo_edge.pipeline import track

SOURCE = "synthetic:seed=3,size=640x480,fps=60,frames=60"
FILES = [Path("labels.xml"), Path("labels.labelstudio.json"), Path("labels.coco.json")]


def main(source: str = SOURCE, box: str = "142,101,126,134") -> None:
    """One target, called ball; give `init` more boxes for more."""
    summary = track(source, init=[f"ball={box}"], bundle="demo", boxes=FILES)
    print(summary.describe())


if __name__ == "__main__":
    main(*sys.argv[1:])
