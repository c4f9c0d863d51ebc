"""Images, videos and names of sources that a tracker may be given by a stranger."""

from __future__ import annotations

import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from clips import draw_frame
from harness import Act, Attack

from relo_edge.host.opencv import cv2
from relo_edge.video.live import ReconnectPolicy, read_live

FRAMES = 30
FLIPS = 6
"""Copies of each file with some bits flipped."""

IMAGES = (".bmp", ".jpg", ".pgm", ".png", ".ppm", ".tiff", ".webp")
VIDEOS = {".mp4": "mp4v", ".mkv": "mp4v", ".avi": "MJPG", ".webm": "VP80"}

BOMB_SIDES = (20_000, 65_535, 1 << 20, (1 << 31) - 1)


def list_attacks() -> Iterator[Attack]:
    """Every one of this kind."""
    yield from _list_bombs()
    yield from _list_spoiled()
    yield from _list_odd_files()
    yield from _list_names()


def _read(source: str) -> None:
    """What `track` does with a source, without a tracker."""
    with read_live(source, reconnect=ReconnectPolicy(attempts=0)) as reader:
        for frame, _ in zip(reader, range(FRAMES), strict=False):
            frame.image.max()


def _write(suffix: str, content: bytes, into: str = "") -> Callable[[Path, Path], Act]:
    """An image in a folder, which is the source, or a video."""

    def prepare(folder: Path, _canary: Path) -> Act:
        path = folder / into / f"1{suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return partial(_read, str(path.parent if into else path))

    return prepare


# Images of few bytes and many pixels


def _list_bombs() -> Iterator[Attack]:
    for side in BOMB_SIDES:
        for suffix, build in BOMBS.items():
            name = f"bomb {side}{suffix}"
            yield Attack(name, _write(suffix, build(side), "images"), must_fail=True)


def _build_png(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(8 << 20), 9)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _build_jpeg(side: int) -> bytes:
    content = bytearray(cv2.imencode(".jpg", draw_frame(0))[1].tobytes())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", min(side, 65_535), min(side, 65_535))
    return bytes(content)


def _build_bmp(side: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def _build_pnm(magic: bytes, side: int) -> bytes:
    return b"%s\n%d %d\n255\n" % (magic, side, side)


def _build_webp(side: int) -> bytes:
    size = min(side, 16_384) - 1
    data = b"\x2f" + (size | size << 14).to_bytes(4, "little") + bytes(16)
    body = b"WEBPVP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _build_tiff(side: int) -> bytes:
    fields = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1)]
    fields += [(278, side), (279, 8)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
    directory = struct.pack("<H", len(fields)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory


BOMBS: dict[str, Callable[[int], bytes]] = {
    ".png": _build_png,
    ".jpg": _build_jpeg,
    ".bmp": _build_bmp,
    ".ppm": partial(_build_pnm, b"P6"),
    ".pgm": partial(_build_pnm, b"P2"),
    ".webp": _build_webp,
    ".tiff": _build_tiff,
}


# Sound files, spoiled


def _list_spoiled() -> Iterator[Attack]:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    for suffix in IMAGES:
        shown = noise[..., 0] if suffix == ".pgm" else noise
        content = cv2.imencode(suffix, shown)[1].tobytes()
        for name, changed, torn in _spoil(content, random.Random(suffix)):
            yield Attack(f"{suffix} {name}", _write(suffix, changed, "images"), must_fail=torn)
        other = IMAGES[(IMAGES.index(suffix) + 1) % len(IMAGES)]
        yield Attack(f"{suffix} as {other}", _write(other, content, "images"))
    for suffix, codec in VIDEOS.items():
        yield Attack(f"{suffix} whole", _make_video(suffix, codec, None))
        for seed in range(FLIPS):
            yield Attack(f"{suffix} flipped {seed}", _make_video(suffix, codec, seed))
        for share in (0.02, 0.3, 0.6, 0.95):
            yield Attack(f"{suffix} cut at {share}", _make_video(suffix, codec, share))


def _spoil(content: bytes, rng: random.Random) -> Iterator[tuple[str, bytes, bool]]:
    """Name, content, and whether to take it for an image would be wrong."""
    yield "empty", b"", True
    yield "random", rng.randbytes(4096), True
    yield "zeros", bytes(4096), True
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        yield f"cut at {share}", content[: int(share * len(content))], True
    for number in range(FLIPS):
        yield f"flipped {number}", _flip(content, rng), False
    yield "doubled", content + content, False
    yield "with a tail", content + rng.randbytes(1 << 20), False


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 8, 64))):
        # Headers are where a number can do most.
        reach = len(changed) if rng.random() < 0.5 else min(len(changed), 128)
        changed[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _make_video(suffix: str, codec: str, harm: float | None) -> Callable[[Path, Path], Act]:
    """A small video: cut at a share of its length, or with bits flipped by a seed."""

    def prepare(folder: Path, _canary: Path) -> Act:
        path = folder / f"clip{suffix}"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25, (96, 64))
        for index in range(12):
            writer.write(draw_frame(index))
        writer.release()
        content = path.read_bytes()
        if isinstance(harm, int):
            path.write_bytes(_flip(content, random.Random(harm)))
        elif harm is not None:
            path.write_bytes(content[: int(harm * len(content))])
        return partial(_read, str(path))

    return prepare


# Files that are none, and folders of too much


def _list_odd_files() -> Iterator[Attack]:
    for name, make in ODD_FILES.items():
        for suffix in (".png", ".mp4"):
            yield Attack(f"{name} as {suffix}", _make_odd(make, suffix), must_fail=True)
    yield Attack("a folder of 20000 names", _make_crowd)
    yield Attack("a folder 500 deep", _make_depth, must_fail=True)


def _make_odd(make: Callable[[Path], object], suffix: str) -> Callable[[Path, Path], Act]:
    def prepare(folder: Path, _canary: Path) -> Act:
        (folder / "images").mkdir()
        path = folder / "images" / f"1{suffix}"
        make(path)
        return partial(_read, str(folder / "images" if suffix == ".png" else path))

    return prepare


ODD_FILES: dict[str, Callable[[Path], object]] = {
    "a fifo": os.mkfifo,
    "a folder": Path.mkdir,
    "a loop of links": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to /dev/stdin": lambda path: path.symlink_to("/dev/stdin"),
    "no access": lambda path: (path.write_bytes(b"x"), path.chmod(0)),
}


def _make_crowd(folder: Path, _canary: Path) -> Act:
    image = cv2.imencode(".png", draw_frame(0))[1].tobytes()
    (folder / "1.png").write_bytes(image)
    for number in range(20_000):
        (folder / f"{number}-{'9' * 100}.txt").touch()
    return partial(_read, str(folder))


def _make_depth(folder: Path, _canary: Path) -> Act:
    name = "/".join(["d"] * 500)
    (folder / name).mkdir(parents=True)
    return partial(_read, str(folder / name))


# Names


NAMES = (
    "",
    " ",
    "-",
    "--help",
    "\x00",
    "\x1b[2Jclip.mp4",
    "a\nb",
    "\udcff.mp4",
    "gpj.\u202e4pm.mp4",
    "x" * 5000,
    "/" * 5000,
    "../" * 1000,
    "~root",
    "*" * 4000,
    "**/" * 300 + "*",
    "[" * 3000 + "!",
    "99999999999999999999",
    "-1",
    "٣",
    "http://",
    "http://[",
    "http://[::1",
    "http://127.0.0.1:99999/x",
    "http://127.0.0.1:1/\x1b[2J",
    "rtsp://127.0.0.1:1/x",
    "rtmp://127.0.0.1:1/x",
    "file:///etc/passwd",
    "concat:/etc/passwd|/etc/hostname",
    "subfile,,start,0,end,9,,:/etc/passwd",
    "pipe:0",
    "data:video/mp4;base64,AAAA",
    "csi:",
    "csi:999",
    "csi:0,size=1x1",
    "csi:0,fps=nan",
    "csi:0 ! filesink location=stray",
    "csi:0,size=640x480 ! filesink location=stray",
    "synthetic:size=0x0",
    "synthetic:size=99999999x99999999",
    "synthetic:fps=inf",
    "synthetic:fps=1e999",
    "synthetic:frames=-1",
    "synthetic:seed=1,seed=2",
    "synthetic:" + "seed=1," * 500,
    "!",
    "! !",
    "'",
    '"unclosed ! fakesrc',
    "fakesrc ! --gst-plugin-path=. ! x",
    "-h ! x",
    "nosuch" * 100 + " ! x",
    "fakesrc num-buffers=-1 sizetype=fixed sizemax=2147483647 ! x",
)

SHELL = (
    "$(touch {0}) ! videoconvert",
    "`touch {0}` ! videoconvert",
    "videotestsrc num-buffers=1 ! x; touch {0}",
    "videotestsrc num-buffers=1 | touch {0} !",
    "videotestsrc num-buffers=1 && touch {0} !",
    "synthetic:seed=$(touch {0})",
    "csi:$(touch {0})",
    "http://127.0.0.1:1/$(touch {0})",
    "$(touch {0})/*.png",
)


def _list_names() -> Iterator[Attack]:
    for number, name in enumerate(NAMES):
        yield Attack(f"name {number} {ascii(name)[:30]}", _use_name(name), must_fail=True)
    for number, name in enumerate(SHELL):
        yield Attack(f"shell {number} {name[:30]}", _use_name(name), must_fail=True)


def _use_name(name: str) -> Callable[[Path, Path], Act]:
    return lambda _, canary: partial(_read, name.replace("{0}", str(canary)))
