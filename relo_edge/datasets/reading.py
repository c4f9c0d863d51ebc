"""A dataset's folder into sequences, by the layout it shows or the caller names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from relo_edge.datasets.annotated import read_nfs, read_trackingnet, read_uav
from relo_edge.datasets.facts import LASOTEXT_CLASSES
from relo_edge.datasets.folders import (
    read_got10k,
    read_lasot,
    read_otb,
    read_plain,
    read_tnl2k,
)
from relo_edge.errors import InputError, SourceError
from relo_edge.sequences import ImageSequence, find_truth
from relo_edge.spec import DATASETS

__all__ = ["LAYOUTS", "Dataset", "read_dataset"]


@dataclass(frozen=True)
class Layout:
    """How one dataset lies on disk."""

    shape: str
    fits: Callable[[Path], bool]
    read: Callable[[Path, float], list[ImageSequence]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Sequences to track, all with ground truth or all without."""

    layout: str
    folder: Path
    sequences: tuple[ImageSequence, ...]

    @property
    def withheld(self) -> bool:
        """Whether a server scores it: what comes out is a submission."""
        return self.sequences[0].withheld

    @property
    def settings(self) -> str:
        """Whose tracker settings the release uses on it."""
        return self.layout if self.layout in DATASETS else "default"


def _holds(*patterns: str) -> Callable[[Path], bool]:
    def fits(folder: Path) -> bool:
        return all(next(folder.glob(pattern), None) is not None for pattern in patterns)

    return fits


def _is_got10k(folder: Path) -> bool:
    return _holds("GOT-10k_*/groundtruth.txt")(folder) or _holds("*/cover.label")(folder)


def _is_lasot(folder: Path) -> bool:
    return _holds("*/*/full_occlusion.txt")(folder) or _holds("*/full_occlusion.txt")(folder)


def _is_lasotext(folder: Path) -> bool:
    names = {path.name.rsplit("-", 1)[0] for path in folder.iterdir() if path.is_dir()}
    return _is_lasot(folder) and bool(names) and names <= LASOTEXT_CLASSES


def _is_trackingnet(folder: Path) -> bool:
    return _holds("anno", "frames")(folder) or _holds("TEST/anno", "TEST/frames")(folder)


def _is_nfs(folder: Path) -> bool:
    return _holds("sequences", "anno/*.txt")(folder) or _holds("*/30/*.txt")(folder)


def _is_plain(folder: Path) -> bool:
    return bool(find_truth(folder)) or any(
        find_truth(path) for path in folder.iterdir() if path.is_dir()
    )


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "got10k": Layout("GOT-10k_*/groundtruth.txt and *.label", _is_got10k, read_got10k),
        "trackingnet": Layout("TEST/anno and TEST/frames", _is_trackingnet, read_trackingnet),
        "uav": Layout(
            "anno/UAV123 and data_seq/UAV123", _holds("anno/UAV123", "data_seq/UAV123"), read_uav
        ),
        "nfs": Layout("NAME/30/NAME.txt, or anno/ and sequences/", _is_nfs, read_nfs),
        "lasotext": Layout("CLASS/CLASS-N/full_occlusion.txt", _is_lasotext, read_lasot),
        "lasot": Layout("CLASS/CLASS-N/full_occlusion.txt", _is_lasot, read_lasot),
        "tnl2k": Layout(
            "NAME/imgs and NAME/groundtruth.txt", _holds("*/imgs", "*/groundtruth.txt"), read_tnl2k
        ),
        "otb": Layout(
            "NAME/img and NAME/groundtruth_rect.txt",
            _holds("*/img", "*/groundtruth_rect*.txt"),
            read_otb,
        ),
        "plain": Layout("NAME/groundtruth.txt beside images", _is_plain, read_plain),
    }
)
"""In the order in which they are looked for: the first that fits is taken."""


def read_dataset(folder: Path, layout: str | None = None, origin: float = 0.0) -> Dataset:
    """Every sequence of the folder, checked before the first is tracked."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise InputError(f"dataset {str(folder)!r}", found=found, expected="a folder")
    if layout is not None and layout not in LAYOUTS:
        raise InputError("layout", found=layout, expected=" | ".join(LAYOUTS))
    try:
        name = layout or _recognise_layout(folder)
        sequences = LAYOUTS[name].read(folder.absolute(), origin)
    except OSError as error:
        raise SourceError(f"dataset {str(folder)!r} cannot be read", found=error) from None
    if not sequences:
        raise InputError(
            f"dataset {str(folder)!r} as {name}",
            found="no sequences",
            expected=LAYOUTS[name].shape,
        )
    for sequence in sequences:
        _check_sequence(sequence, sequences[0].withheld)
    return Dataset(name, folder, tuple(sequences))


def _recognise_layout(folder: Path) -> str:
    for name, layout in LAYOUTS.items():
        if layout.fits(folder):
            return name
    inside = [part for part in ("val", "test") if (folder / part).is_dir()]
    fix = f"pass {folder / inside[0]}" if inside else "docs/accuracy.md shows each layout"
    raise InputError(
        f"dataset {str(folder)!r}",
        found="no layout that fits",
        expected=" | ".join(LAYOUTS),
        fix=fix,
    )


def _check_sequence(sequence: ImageSequence, withheld: bool) -> None:
    if sequence.absent[0]:
        raise SourceError(
            f"sequence {sequence.name}", found="no box in its first frame", expected="a target"
        )
    if sequence.withheld != withheld:
        raise SourceError(
            f"sequence {sequence.name}",
            found="one box" if sequence.withheld else "all boxes",
            expected="what the other sequences have",
        )
