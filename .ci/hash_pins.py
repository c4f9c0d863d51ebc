"""Writes constraints-hashed.txt: each pin of constraints.txt with the SHA-256 of all its files.

pip refuses a file whose hash is not listed. Needs `uv`, which asks the index.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINS, HASHED = ROOT / "constraints.txt", ROOT / "constraints-hashed.txt"
PYTHONS = ("3.10.13", "3.11.13", "3.12.13", "3.13.13")
WITHOUT_HASH = ("torch",)
"""Its CPU builds are other files than the index's own."""


def normalise(line: str) -> str:
    """The `name==version` that a line begins with, as indexes spell it."""
    name, _, version = re.split(r"[\s;\\]", line, maxsplit=1)[0].partition("==")
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"


def ask_hashes(pins: list[str]) -> dict[str, list[str]]:
    """The hashes of every file of each `name==version`."""
    found: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "pins.txt"
        source.write_text("\n".join(pins))
        for python in PYTHONS:
            command = ["uv", "pip", "compile", str(source), "--python-version", python, "--quiet"]
            options = ["--no-deps", "--generate-hashes", "--no-header", "--no-annotate"]
            answer = subprocess.run(
                [*command, *options], check=True, stdout=subprocess.PIPE, text=True
            )
            for entry in answer.stdout.replace("\\\n", " ").splitlines():
                found[normalise(entry)] = sorted(re.findall(r"sha256:[0-9a-f]{64}", entry))
    return found


def main() -> None:
    """Every pin of constraints.txt in its order, with its marker."""
    lines = [line for line in PINS.read_text().splitlines() if line and line[0] != "#"]
    hashed = [line for line in lines if line.partition("==")[0] not in WITHOUT_HASH]
    found = ask_hashes(hashed)
    text = ["# Written by .ci/hash_pins.py from constraints.txt."]
    for line in lines:
        hashes = found[normalise(line)] if line in hashed else []
        text.append(" \\\n    ".join([line, *(f"--hash={value}" for value in hashes)]))
    HASHED.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
