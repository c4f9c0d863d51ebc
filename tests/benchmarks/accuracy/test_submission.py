"""Submissions hold what the servers ask for, in their own layout."""

import zipfile

import numpy as np
import pytest
from tracked import make_track

from relo_edge.benchmarks.accuracy.submission import write_submission
from relo_edge.errors import SourceError

BOXES = "1.000,5.000,20.000,10.000\n1.333,5.000,20.000,10.000\n"


def read_zip(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_got10k(tmp_path):
    tracked = {"GOT-10k_Test_000002": make_track(2), "GOT-10k_Test_000001": make_track(2)}
    files = read_zip(write_submission("got10k", tracked, tmp_path))
    assert list(files) == [
        "GOT-10k_Test_000001/GOT-10k_Test_000001_001.txt",
        "GOT-10k_Test_000001/GOT-10k_Test_000001_time.txt",
        "GOT-10k_Test_000002/GOT-10k_Test_000002_001.txt",
        "GOT-10k_Test_000002/GOT-10k_Test_000002_time.txt",
    ]
    boxes, times = list(files.values())[:2]
    assert boxes == BOXES
    assert times == "0.01000000\n0.02000000\n"
    assert np.loadtxt(boxes.splitlines(), delimiter=",").shape == (2, 4)


def test_trackingnet(tmp_path):
    path = write_submission("trackingnet", {"clip_0": make_track(2)}, tmp_path)
    assert read_zip(path) == {"clip_0.txt": BOXES}
    assert list(tmp_path.iterdir()) == [path]


def test_a_submission_replaces_the_one_before_or_leaves_it(tmp_path):
    first = write_submission("trackingnet", {"a": make_track(2)}, tmp_path)
    content = first.read_bytes()
    with pytest.raises(AttributeError):
        write_submission("trackingnet", {"a": None}, tmp_path)
    assert first.read_bytes() == content
    assert write_submission("trackingnet", {"b": make_track(3)}, tmp_path) == first
    assert list(read_zip(first)) == ["b.txt"]
    assert list(tmp_path.iterdir()) == [first]


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(SourceError, match="submission.zip cannot be written: found No such file"):
        write_submission("trackingnet", {"a": make_track(2)}, tmp_path / "none")
