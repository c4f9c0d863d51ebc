"""The one place that imports OpenCV, so that a broken install is told in one line wherever it strikes."""

from relo_edge.errors import MissingDependency

__all__ = ["cv2"]

try:
    import cv2
except ImportError as error:
    raise MissingDependency(
        "OpenCV does not import",
        found=error,
        expected="a working cv2",
        fix="`relo-edge doctor` says what to install",
    ) from error
