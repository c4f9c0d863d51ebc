"""The VOT toolkit's tracker interface: a TraX server on the standard streams.

`trackers.ini` of a VOT workspace names it:

    [relo]
    label = relo-edge
    protocol = trax
    command = python -m relo_edge.adapters.vot /path/to/relo-t256
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relo_edge.adapters.packages import import_package
from relo_edge.errors import ReloError, SourceError
from relo_edge.runtime import open_runtime
from relo_edge.tracker import Tracker
from relo_edge.video.sources.files import read_image

if TYPE_CHECKING:
    from relo_edge.runtime import Runtime
    from relo_edge.video.sources.frames import Frame

__all__ = ["serve_trax"]


def serve_trax(runtime: Runtime) -> None:
    """Answer the toolkit's requests until it quits: rectangles in, rectangles out.

    Args:
        runtime: an open runtime.

    Raises:
        MissingDependency: vot-trax is not installed.
        InputError: a first region that cannot be tracked.
        SourceError: an image that cannot be read, or nothing there that speaks TraX.
    """
    trax = import_package("trax", "vot-trax")
    tracker = Tracker(runtime, color="bgr")
    server = trax.Server([trax.Region.RECTANGLE], [trax.Image.PATH], tracker_name="relo-edge")
    try:  # in a `with`, the server would print a traceback
        _answer_requests(trax, server, tracker)
    except ReloError as error:
        server.quit(str(error))
        raise
    server.quit()


def _answer_requests(trax: Any, server: Any, tracker: Tracker) -> None:
    while True:
        request = _await_request(trax, server)
        if request.type not in (trax.TraxStatus.INITIALIZE, trax.TraxStatus.FRAME):
            return
        frame = _read_image(request.image["color"])
        if request.type == trax.TraxStatus.INITIALIZE:
            region = request.objects[0][0]
            tracker.init(frame, region.bounds())
            server.status([(region, {})])
            continue
        track = tracker.update(frame)
        region = trax.Rectangle.create(*track.box)
        server.status([(region, {"confidence": track.confidence})])


def _await_request(trax: Any, server: Any) -> Any:
    try:
        return server.wait()
    except trax.TraxException as error:
        fix = "start it with `vot evaluate`, from a workspace whose trackers.ini names it"
        raise SourceError("nothing speaks TraX here", fix=fix) from error


def _read_image(image: Any) -> Frame:
    return read_image(Path(image.path()))


def main(words: Sequence[str] | None = None) -> int:
    """Open the bundle and serve; an error ends in one line, which the toolkit keeps in its log."""
    parser = argparse.ArgumentParser(prog="python -m relo_edge.adapters.vot")
    parser.add_argument("bundle", help="bundle folder, or demo")
    parser.add_argument("--runtime", default="auto", help="auto, or a runtime's name")
    parser.add_argument("--precision", default="auto", help="auto, or a precision of the bundle")
    asked = parser.parse_args(words)
    try:
        with open_runtime(asked.bundle, asked.runtime, asked.precision) as runtime:
            serve_trax(runtime)
    except ReloError as error:
        print(f"relo-edge: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
