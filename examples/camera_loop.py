"""Follow one target in a live source: `python camera_loop.py [SOURCE] [X,Y,W,H] [BUNDLE]`.

SOURCE is whatever `relo-edge track` takes: a camera's number, an rtsp:// address, a video …
"""

import sys

from relo_edge import Tracker, open_runtime, read_live

SOURCE = "synthetic:seed=3,size=640x480,fps=30,frames=60"
BOX = "142,101,126,134"


def main(source: str = SOURCE, box: str = BOX, bundle: str = "demo") -> None:
    """Print where the target is, until the source ends or Ctrl-C."""
    x, y, width, height = (float(number) for number in box.split(","))
    with open_runtime(bundle) as runtime, read_live(source) as frames:
        tracker = Tracker(runtime, color="bgr")
        tracker.init(next(frames).image, (x, y, width, height))
        for frame in frames:
            track = tracker.update(frame.image)
            state = "lost" if track.lost else f"{track.confidence:.0%} sure"
            print(f"frame {frame.index}: {', '.join(f'{v:.1f}' for v in track.box)} {state}")


if __name__ == "__main__":
    main(*sys.argv[1:])
