"""A server for all tests of a file that leave it as they found it, and one that wants a token."""

import pytest
from pages import serve


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for all that leave it as they found it."""
    with serve(tmp_path_factory.mktemp("takes")) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """One that listens to everybody, so that it wants a token."""
    with serve(tmp_path_factory.mktemp("takes"), host="0.0.0.0") as running:
        yield running
