"""A dataset's folder into sequences, by the layout it shows or the caller names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from relo_edge.datasets.annotated import (
    find_nfs,
    find_trackingnet,
    find_trackingnet_training,
    find_uav,
    read_nfs,
    read_trackingnet,
    read_uav,
)
from relo_edge.datasets.folders import (
    find_got10k,
    find_got10k_training,
    find_lasot,
    find_lasot_training,
    find_otb,
    find_plain,
    find_tnl2k,
    read_got10k,
    read_lasot,
    read_otb,
    read_plain,
    read_tnl2k,
)
from relo_edge.datasets.published_splits import LASOTEXT_CLASSES
from relo_edge.datasets.sequences import ImageSequence, find_truth
from relo_edge.errors import InputError, SourceError
from relo_edge.spec import DATASETS

__all__ = ["LAYOUTS", "Dataset", "find_videos", "read_dataset"]


@dataclass(frozen=True)
class Layout:
    """How one dataset lies on disk."""

    shape: str
    fits: Callable[[Path], bool]
    find: Callable[[Path], list[Path]]
    """A file or folder for each video; none is opened."""
    read: Callable[[Path, float], list[ImageSequence]]
    """The targets of one of those."""
    find_training: Callable[[Path], list[Path]] | None = None
    """The training videos, where the dataset has a training part."""


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
        """The tracker settings that the release uses on it."""
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
    parts = ("", "TEST/", "TRAIN_*/")
    return any(_holds(f"{part}anno", f"{part}frames")(folder) for part in parts)


def _is_nfs(folder: Path) -> bool:
    return _holds("sequences", "anno/*.txt")(folder) or _holds("*/30/*.txt")(folder)


def _is_tnl2k(folder: Path) -> bool:
    """Its sentences tell it from plain sequences whose images are in imgs/ too."""
    places = (path.parent for path in folder.glob("*/language.txt"))
    return any(_holds("imgs", "groundtruth.txt")(place) for place in places)


def _is_plain(folder: Path) -> bool:
    return bool(find_truth(folder)) or any(
        find_truth(path) for path in folder.iterdir() if path.is_dir()
    )


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "got10k": Layout(
            "GOT-10k_*/groundtruth.txt and *.label",
            _is_got10k,
            find_got10k,
            read_got10k,
            find_got10k_training,
        ),
        "trackingnet": Layout(
            "TEST/anno and TEST/frames",
            _is_trackingnet,
            find_trackingnet,
            read_trackingnet,
            find_trackingnet_training,
        ),
        "uav": Layout(
            "anno/UAV123 and data_seq/UAV123",
            _holds("anno/UAV123", "data_seq/UAV123"),
            find_uav,
            read_uav,
        ),
        "nfs": Layout("NAME/30/NAME.txt, or anno/ and sequences/", _is_nfs, find_nfs, read_nfs),
        "lasotext": Layout(
            "CLASS/CLASS-N/full_occlusion.txt", _is_lasotext, find_lasot, read_lasot
        ),
        "lasot": Layout(
            "CLASS/CLASS-N/full_occlusion.txt",
            _is_lasot,
            find_lasot,
            read_lasot,
            find_lasot_training,
        ),
        "tnl2k": Layout(
            "NAME/imgs, NAME/groundtruth.txt and NAME/language.txt",
            _is_tnl2k,
            find_tnl2k,
            read_tnl2k,
        ),
        "otb": Layout(
            "NAME/img and NAME/groundtruth_rect.txt",
            _holds("*/img", "*/groundtruth_rect*.txt"),
            find_otb,
            read_otb,
        ),
        "plain": Layout("NAME/groundtruth.txt beside images", _is_plain, find_plain, read_plain),
    }
)
"""In order of preference: the first layout that fits is used."""

PLAIN_RULE = "give each sequence a folder: images, and groundtruth.txt with a line x,y,w,h for each"


def read_dataset(folder: Path, layout: str | None = None, origin: float = 0.0) -> Dataset:
    """Every sequence of the folder, checked before the first is tracked."""
    if layout is not None and layout not in LAYOUTS:
        raise InputError("layout", found=layout, expected=" | ".join(LAYOUTS))
    with _look_into(folder):
        name = layout or _recognise_layout(folder, ("val", "test"))
        read = LAYOUTS[name].read
        places = LAYOUTS[name].find(folder.absolute())
        sequences = [sequence for place in places for sequence in read(place, origin)]
    if not sequences:
        raise _miss_sequences(folder, name)
    _check_names(folder, sequences)
    for sequence in sequences:
        _check_sequence(sequence, sequences[0].withheld)
    return Dataset(name, folder, tuple(sequences))


def find_videos(folder: Path) -> tuple[str, list[Path]]:
    """The folder's layout and the videos in it to train on, not one of them read yet.

    Whoever calls has looked for COCO's pictures before.
    """
    with _look_into(folder):
        name = _recognise_layout(folder, ("train", "val"), "coco")
        layout = LAYOUTS[name]
        places = (layout.find_training or layout.find)(folder.absolute())
        if not places and layout.find(folder):
            raise InputError(
                f"dataset {str(folder)!r} as {name}",
                found="its test part alone",
                expected="sequences to learn from",
            )
    if not places:
        raise _miss_sequences(folder, name)
    return name, places


@contextmanager
def _look_into(folder: Path) -> Iterator[None]:
    """Report a missing or unreadable folder in one line."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise InputError(f"dataset {str(folder)!r}", found=found, expected="a folder")
    try:
        yield
    except OSError as error:
        raise SourceError(f"dataset {str(folder)!r} cannot be read", found=error) from None


def _miss_sequences(folder: Path, layout: str) -> InputError:
    return InputError(
        f"dataset {str(folder)!r} as {layout}",
        found="no sequences",
        expected=LAYOUTS[layout].shape,
    )


def _recognise_layout(folder: Path, parts: tuple[str, ...], *others: str) -> str:
    """The first that fits; `parts` are the folders that may have been meant."""
    for name, layout in LAYOUTS.items():
        if layout.fits(folder):
            return name
    inside = [part for part in parts if (folder / part).is_dir()]
    fix = f"pass {folder / inside[0]}" if inside else PLAIN_RULE
    raise InputError(
        f"dataset {str(folder)!r}",
        found="no layout that fits",
        expected=" | ".join((*LAYOUTS, *others)),
        fix=fix,
    )


def _check_names(folder: Path, sequences: Sequence[ImageSequence]) -> None:
    """Results are kept by name: of two that share one, only one would count."""
    name, count = Counter(sequence.name for sequence in sequences).most_common(1)[0]
    if count > 1:
        raise SourceError(
            f"dataset {str(folder)!r}",
            found=f"{count} sequences called {name}",
            expected="a name of its own for each",
            fix="rename all but one of them",
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
