"""Run with the fault shim: publishing is struck at every system call that changes a file.

Arguments: a bundle, a scratch folder, what is struck, kill or no-space, and whether the disk can
exchange two folders.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from fault_injection import KILL, NO_SPACE, strike_everywhere

from relo_edge.bundle import Bundle, describe_files, open_bundle, publish_precision
from relo_edge.host import files

source, scratch, action, kind, disk = sys.argv[1:]
scratch = Path(scratch)
pristine, path, made = scratch / "pristine", scratch / "place" / "bundle", scratch / "made"
shutil.copytree(source, pristine)
path.parent.mkdir()
if disk == "old":
    files.exchange = lambda _new, _path: False

original = open_bundle(pristine)
graphs = {name: f"{name}.fp16.onnx" for name in original.manifest["graphs"]["fp32"]}
made.mkdir()
for name, file in graphs.items():
    shutil.copyfile(original.graph(name), made / file)
candidate = Bundle(
    made,
    original.variant,
    {
        "graphs": {"fp16": graphs},
        "state_dtype": {"fp16": "float32"},
        "files": describe_files(made, *graphs.values()),
    },
)


def restore():
    """The old bundle, and nothing of what the last kill left."""
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    shutil.copytree(pristine, path, copy_function=os.link)


def list_names():
    return sorted(file.name for file in path.parent.iterdir())


def add_precision():
    publish_precision(open_bundle(path), candidate, "fp16", {})


def replace():
    with files.publish_folder(path) as part:
        shutil.copytree(made, part, copy_function=files.share_file, dirs_exist_ok=True)
        shutil.copyfile(pristine / "manifest.json", part / "manifest.json")
        for name in ("template.onnx", "step.onnx"):
            files.share_file(pristine / name, part / name)


acts = {"add": add_precision, "replace": replace}
problems, kept = [], {"old": 0, "new": 0}


def check(nth, outcome):
    """Whole, old or new; then the next start, after which nothing lies about."""
    try:
        bundle = open_bundle(path)
        assert not bundle.find_damage(), bundle.find_damage()
        is_new = "fp16" in bundle.precisions or (path / "step.fp16.onnx").exists()
        kept["new" if is_new else "old"] += 1
        if kind == "no-space" and outcome:
            assert "\n" not in outcome, outcome
            assert outcome.startswith(("SourceError", "OSError")), outcome
            assert list_names() == ["bundle"], list_names()
        acts[action]()
        assert not open_bundle(path).find_damage()
        assert list_names() == ["bundle"], list_names()
    except Exception as error:
        problems.append(f"call {nth}, {outcome}: {type(error).__name__}: {error}")
    restore()


path.mkdir()
restore()
struck = strike_everywhere(acts[action], check, KILL if kind == "kill" else NO_SPACE)
print(json.dumps({"struck": struck, **kept, "problems": problems}))
