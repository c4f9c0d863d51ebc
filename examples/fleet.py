"""Follow targets in several cameras with one runtime; cameras come and go: `python fleet.py`."""

from relo_edge import Fleet, open_runtime

BUNDLE = "demo"
CAMERAS = 3
FRAMES = 20
LATER = 10
"""After so many frames another camera joins, and the first one leaves."""

BALLS = [(151, 122, 58, 45), (143, 85, 38, 50), (101, 46, 50, 55), (71, 50, 63, 67)]
"""Each camera's target in its first frame; in your program, a detector's boxes or a user's."""


def name_camera(seed: int) -> str:
    """A synthetic camera stands for a file, an rtsp:// address or a camera number."""
    return f"synthetic:seed={seed},size=320x240,fps=60,frames={FRAMES}"


def main() -> None:
    """Print how many frames of each camera were tracked, and where its target was last."""
    last: dict[str, tuple[int, list[int]]] = {}
    # Lanes: on a CPU, so many cameras are computed side by side. A GPU steps them as one batch.
    most = CAMERAS + 1
    with open_runtime(BUNDLE, batch=most, lanes=most) as runtime, Fleet(runtime) as fleet:
        for seed in range(CAMERAS):
            fleet.add_source(f"cam{seed}", name_camera(seed), {"ball": BALLS[seed]})
        for count, frame in enumerate(fleet):
            tracked, _ = last.get(frame.source, (0, []))
            box = [round(value) for value in frame.tracks["ball"].box]
            last[frame.source] = (tracked + 1, box)
            if count == LATER:
                fleet.add_source("late", name_camera(CAMERAS), {"ball": BALLS[CAMERAS]})
                fleet.remove_source("cam0")
        for source, failure in fleet.failures.items():
            print(f"{source} failed: {failure}")
    for source, (tracked, box) in sorted(last.items()):
        print(f"{source}: {tracked} frames, last box {box}")


if __name__ == "__main__":
    main()
