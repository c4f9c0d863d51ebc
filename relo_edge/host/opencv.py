"""The one place that imports OpenCV: a broken install is told in one line wherever it strikes."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys

from relo_edge.errors import MissingDependency

__all__ = ["PIXEL_LIMIT", "cv2", "explain_failure"]

PIXEL_LIMIT = "OPENCV_IO_MAX_IMAGE_PIXELS"
"""OpenCV's own variable; it checks an image's header by it before it decodes."""

DEFAULT_PIXELS = 1 << 27
"""134 million: more than any camera has, and 400 MB decoded."""

_MISSING_LIBRARY = re.compile(r"(lib[\w.+-]+?\.so[.\d]*): cannot open shared object file")

# Debian's and Ubuntu's package of each library that OpenCV expects the system to have.
_DEBIAN_PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libOpenGL.so.0": "libopengl0",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libXrender.so.1": "libxrender1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgobject-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libgomp.so.1": "libgomp1",
    "libgstreamer-1.0.so.0": "libgstreamer1.0-0",
    "libgtk-3.so.0": "libgtk-3-0",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libz.so.1": "zlib1g",
}

_WHEELS = {"cv2": "opencv-python", "numpy": "numpy"}

_HEADLESS = "`pip uninstall -y opencv-python && pip install opencv-python-headless`"


def explain_failure(error: Exception) -> MissingDependency:
    """One line that names the cause and the fix; OpenCV's own message names neither."""
    text = str(error)
    library = _MISSING_LIBRARY.search(text)
    if isinstance(error, ModuleNotFoundError) and error.name in _WHEELS:
        found, fix = f"no {error.name} installed", f"`pip install {_WHEELS[error.name]}`"
    elif library:
        found = f"no {library[1]} on this system"
        fix = f"{_advise_package(library[1])}, or where no window is needed {_HEADLESS}"
    elif re.search(r"multiarray|_ARRAY_API|ABI version", text):
        found = "a build for another numpy than the one installed"
        fix = "`pip install --upgrade opencv-python`, or `pip install 'numpy<2'` to keep this one"
    else:
        found, fix = text, "`pip uninstall -y opencv-python && pip install opencv-python`"
    return MissingDependency("OpenCV does not import", found=found, fix=fix)


def _advise_package(library: str) -> str:
    """How Debian and Ubuntu get the library; libxcb's family follows one rule."""
    package = _DEBIAN_PACKAGES.get(library)
    family = re.fullmatch(r"(libxcb(?:-[a-z]+)*)\.so\.(\d+)", library)
    if family:
        package = f"{family[1]}{family[2]}"
    if package:
        return f"`apt-get install {package}`"
    return f"install the package that holds it (`apt-file search {library}`)"


# A wheel built for numpy 1 makes numpy 2 print two tracebacks before the import fails.
_chatter = io.StringIO()
if not os.environ.get(PIXEL_LIMIT, "").isdecimal():  # OpenCV reads it while it is imported
    os.environ[PIXEL_LIMIT] = str(DEFAULT_PIXELS)
try:
    with contextlib.redirect_stderr(_chatter):
        import cv2

        if not hasattr(cv2, "getBuildInformation"):
            raise ImportError("a cv2 folder without its code, as an uninstall can leave it")
except Exception as error:
    raise explain_failure(error) from error
if _chatter.getvalue() and sys.stderr:
    sys.stderr.write(_chatter.getvalue())
