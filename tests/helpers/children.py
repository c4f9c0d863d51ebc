"""Processes that a test starts and strikes down."""

import time


def wait_for_file(path, child, seconds=120):
    """Until the child has written it, has ended by itself, or has had its time."""
    deadline = time.monotonic() + seconds
    while not path.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
