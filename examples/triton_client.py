"""Follow one target on a Triton server: `python triton_client.py [URL] [MODEL] [SOURCE] [X,Y,W,H]`.

First, once: `relo-edge triton demo -o model_repository`, and a server on that folder.
"""

import sys

from relo_edge import read_live
from relo_edge.triton import TritonTracker

SOURCE = "synthetic:seed=3,size=640x480,fps=30,frames=60"
BOX = "142,101,126,134"


def main(
    url: str = "127.0.0.1:8001", model: str = "relo-demo", source: str = SOURCE, box: str = BOX
) -> None:
    """Print where the target is, until the source ends or Ctrl-C."""
    x, y, width, height = (float(number) for number in box.split(","))
    with TritonTracker(url, model, color="bgr") as tracker, read_live(source) as frames:
        tracker.init(next(frames).image, (x, y, width, height))
        for frame in frames:
            track = tracker.update(frame.image)
            state = "lost" if track.lost else f"{track.confidence:.0%} sure"
            if track.restarted:  # the server was restarted, or had forgotten this stream
                state += ", started again from the last box"
            print(f"frame {frame.index}: {', '.join(f'{v:.1f}' for v in track.box)} {state}")


if __name__ == "__main__":
    main(*sys.argv[1:])
