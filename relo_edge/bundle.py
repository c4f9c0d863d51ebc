"""The exported artifact on disk: what it holds, and whether it is still what was published."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from relo_edge.contract import EngineGraph, list_graphs
from relo_edge.errors import BundleError, InputError, ReloError
from relo_edge.families.registry import FAMILIES, find_family
from relo_edge.graphs.structure import check_structure
from relo_edge.host.files import (
    describe_kind,
    hash_file,
    publish_folder,
    recover_folder,
    share_file,
    write_text,
)
from relo_edge.host.json_files import read_json
from relo_edge.spec import TrackerVariant
from relo_edge.validation.manifest import FORMAT, check_graphs, check_manifest
from relo_edge.validation.schema import Mismatch

__all__ = [
    "FORMAT",
    "MANIFEST",
    "QDQ_PRECISIONS",
    "Bundle",
    "check_place",
    "describe_files",
    "open_bundle",
    "publish_precision",
    "write_manifest",
]

MANIFEST = "manifest.json"
QDQ_PRECISIONS = ("int8", "fp8")
"""Their graphs are float32 beside the Q/DQ pairs: an engine's are half there."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest has been read and found sound; files are checked as they are used."""

    path: Path
    variant: TrackerVariant
    manifest: Mapping[str, Any]

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that have graphs."""
        return tuple(self.manifest["graphs"])

    @property
    def key(self) -> str:
        """The sha256 of the float32 step graph: what all other precisions are made from."""
        return str(self.manifest["files"][self.manifest["graphs"]["fp32"]["step"]]["sha256"])

    def state_dtype(self, precision: str) -> str:
        """The type in which that precision's graphs carry the temporal state."""
        return str(self.manifest["state_dtype"][precision])

    def graph(self, name: str, precision: str = "fp32") -> Path:
        """The path of a graph whose content is the one published, and which any runtime may open.

        Raises:
            BundleError: there is no such graph, it is damaged, or it could do harm.
        """
        if precision not in self.manifest["graphs"]:
            raise BundleError(
                f"{self.path}: precision",
                found=" | ".join(self.precisions),
                expected=precision,
                fix=f"make it with `relo-edge quantize {quote(str(self.path))} --{precision}`",
            )
        file = self.manifest["graphs"][precision][name]
        path = self.check_file(file)
        check_structure(path, self.manifest["files"][file]["sha256"])
        return path

    def engine_graph(self, name: str, precision: str) -> EngineGraph:
        """What an engine of that precision is built from: the graph itself, unless a precision
        has other files for it."""
        path, state_dtype = self.graph(name, precision), self.state_dtype(precision)
        made = self.manifest.get("engine_graphs", {}).get(precision)
        if made is None and precision in QDQ_PRECISIONS:
            raise BundleError(
                f"{self.path} has no graphs that {precision} engines are built from",
                fix=f"make them with `relo-edge quantize {quote(str(self.path))} --{precision}`, "
                "if need be on another machine",
            )
        if made is None:
            return EngineGraph(path, state_dtype)
        entry = made[name]
        kept = entry["kept_in_float32"]
        return EngineGraph(self.check_file(entry["file"]), entry["state_dtype"], kept)

    def check_file(self, name: str) -> Path:
        """The file's path, or a word on how it differs from what was published."""
        path, entry = self.path / name, self.manifest["files"].get(name)
        if entry is None:
            raise BundleError(f"{self.path}: manifest", found=f"no entry for {name}", fix=self._fix)
        if not path.is_file():
            raise BundleError(f"{path}", found="no such file", expected="a file", fix=self._fix)
        size, found = path.stat().st_size, None
        if size != entry["bytes"]:
            found, expected = f"{size} bytes", f"{entry['bytes']} bytes"
        elif (digest := hash_file(path)) != entry["sha256"]:
            found, expected = f"sha256 {digest[:12]}", f"sha256 {entry['sha256'][:12]}"
        if found:
            what = f"{path} is not the file that its manifest ({self.variant.name}) describes"
            raise BundleError(what, found=found, expected=expected, fix=self._fix)
        return path

    def find_damage(self) -> dict[str, str]:
        """Every file that is not as published, and how."""
        damage = {}
        for name in self.manifest["files"]:
            try:
                self.check_file(name)
            except BundleError as error:
                damage[name] = str(error)
        return damage

    @property
    def _fix(self) -> str:
        source, target = quote(self.manifest["checkpoint"]["path"]), quote(str(self.path))
        command = f"relo-edge export --variant {self.variant.name} --checkpoint {source}"
        return f"make it again with `{command} -o {target} --force`"


def open_bundle(path: str | Path) -> Bundle:
    """Read a bundle's manifest; the files it names are checked when they are used.

    Args:
        path: the bundle's folder.

    Returns:
        The bundle.

    Raises:
        InputError: there is no such folder.
        BundleError: the folder is no bundle, or its manifest is damaged or too new.
    """
    path = Path(path)
    recover_folder(path)
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing there"
        raise InputError(
            f"bundle {path}",
            found=found,
            expected="a folder",
            fix="make one with `relo-edge export`",
        )
    file = path / MANIFEST
    try:
        manifest = read_json(file)
    except FileNotFoundError:
        raise BundleError(
            f"{path} is no bundle",
            found=f"no {MANIFEST}",
            fix="make one with `relo-edge export`",
        ) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{file} cannot be read", found=error, expected="JSON") from None
    _check_manifest(file, manifest)
    bundle = Bundle(path, _read_variant(file, manifest), manifest)
    with _explain_mismatch(file):
        check_graphs(manifest, list_graphs(bundle.variant))
    for name in (MANIFEST, *manifest["files"]):
        check_place(path, path / name)
    return bundle


def check_place(root: Path, path: Path) -> None:
    """Refuse what a bundle must not hold: a link that leads out of it, a FIFO, a device.

    Args:
        root: the bundle's folder.
        path: a file or folder in it; one that is not there is no concern of this.

    Raises:
        BundleError: it is something else than a file or folder of the bundle.
    """
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            inside = path.resolve().is_relative_to(root.resolve())
            mode = path.stat().st_mode if inside else mode
    except RuntimeError:  # Python below 3.13: a link that leads to itself
        pass
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        found = "a link that leads out of it" if stat.S_ISLNK(mode) else describe_kind(mode)
        raise BundleError(
            f"bundle {root}: {path.relative_to(root)}",
            found=found,
            expected="a file of its own",
            fix="`cp -rL` copies a bundle with what its links lead to",
        )


def publish_precision(
    bundle: Bundle, candidate: Bundle, precision: str, extra: Mapping[str, Any]
) -> Bundle:
    """Take a candidate's files and graphs of one precision over into the bundle.

    A copy of hard links is changed and moved into place, so that no reader sees half of it.
    `extra` is merged into the manifest's sections of the same name. What another process has added
    since the bundle was opened is kept.
    """
    path = bundle.path.resolve()  # a relative one may lead into the folder that is replaced
    with publish_folder(path, wait=True) as folder:
        current = _reopen(bundle, path)
        manifest, names, replaced = _merge_precision(current, candidate, precision, extra)
        shutil.copytree(
            path,
            folder,
            symlinks=True,
            copy_function=share_file,
            ignore=shutil.ignore_patterns(".*.part", ".*.lock"),
            dirs_exist_ok=True,
        )
        for name in names | replaced:
            (folder / name).unlink(missing_ok=True)
        for name in names:
            shutil.copyfile(candidate.path / name, folder / name)
        write_manifest(folder, manifest)
    return open_bundle(path)


def _reopen(bundle: Bundle, path: Path) -> Bundle:
    """The bundle as it is now, as long as it is still of the same float32 graphs."""
    current = open_bundle(path)
    names = bundle.manifest["graphs"]["fp32"]
    before, now = (
        [(name, b.manifest["files"].get(name)) for name in names.values()]
        for b in (bundle, current)
    )
    if before != now:
        raise BundleError(f"{path} has been exported again meanwhile", fix="run this again")
    return current


def _merge_precision(
    bundle: Bundle, candidate: Bundle, precision: str, extra: Mapping[str, Any]
) -> tuple[dict[str, Any], set[str], set[str]]:
    """The manifest with the candidate's precision in it, the files it brings and those it drops."""
    names = set(candidate.manifest["files"]) - set(bundle.manifest["graphs"]["fp32"].values())
    manifest = dict(bundle.manifest)
    for section in ("graphs", "state_dtype", "engine_graphs"):
        known = {k: v for k, v in manifest.get(section, {}).items() if k != precision}
        added = candidate.manifest.get(section, {})
        manifest[section] = {**known, **added}
    replaced = _list_graph_files(bundle, precision) - names
    kept = {name: e for name, e in manifest["files"].items() if name not in replaced}
    manifest["files"] = {**kept, **candidate.manifest["files"]}
    for section, entries in extra.items():
        manifest[section] = {**manifest.get(section, {}), **entries}
    return manifest, names, replaced


def _list_graph_files(bundle: Bundle, precision: str) -> set[str]:
    """The files that serve this precision alone."""
    made = bundle.manifest.get("engine_graphs", {}).get(precision, {})
    names = {*bundle.manifest["graphs"].get(precision, {}).values()}
    names |= {entry["file"] for entry in made.values()}
    return names - set(bundle.manifest["graphs"]["fp32"].values())


def describe_files(folder: Path, *names: str) -> dict[str, dict[str, Any]]:
    """The manifest's entry for each file: size and hash."""
    paths = {name: folder / name for name in names}
    return {
        name: {"bytes": path.stat().st_size, "sha256": hash_file(path)}
        for name, path in paths.items()
    }


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Publish a manifest in one move."""
    write_text(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


def _check_manifest(file: Path, manifest: Any) -> None:
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise BundleError(f"{file}", found="no format version", expected="a bundle's manifest")
    if not 1 <= manifest["format"] <= FORMAT:
        raise BundleError(
            f"{file}: bundle format",
            found=manifest["format"],
            expected=f"{FORMAT} or older",
            fix="update relo-edge, or export again with this version",
        )
    with _explain_mismatch(file):
        check_manifest(manifest)


@contextmanager
def _explain_mismatch(file: Path) -> Iterator[None]:
    try:
        yield
    except Mismatch as error:
        raise BundleError(
            f"{file} is damaged, {error.place}",
            found=error.found,
            expected=error.expected,
            fix="export the checkpoint again",
        ) from None


def _read_variant(file: Path, manifest: Mapping[str, Any]) -> TrackerVariant:
    name = manifest.get("family", next(iter(FAMILIES)))
    if name not in FAMILIES:
        raise BundleError(
            f"{file}: family",
            found=repr(name),
            expected=" | ".join(FAMILIES),
            fix="update relo-edge",
        )
    family = find_family(name)
    try:
        variant = family.read_variant(manifest["variant"])
    except (AttributeError, KeyError, TypeError, ValueError, ReloError) as error:
        raise BundleError(f"{file}: variant", found=error, expected="a variant's sizes") from None
    known = family.variants.get(variant.name)
    if known is not None and known.to_dict() != variant.to_dict():
        plain, expected = variant.to_dict(), known.to_dict()
        key = next(key for key in expected if plain.get(key) != expected[key])
        raise BundleError(
            f"{file}: {variant.name}'s {key}",
            found=plain[key],
            expected=expected[key],
            fix="export again with this version",
        )
    return variant
