"""Engines that no library can load, with sidecars as `build-engine` writes them."""

import hashlib
import json

from relo_edge.runtimes.tensorrt.sidecar import FOLDER, FORMAT, Sidecar

PLAN = b"not a plan"


def describe_engine(bundle, stem, **changes):
    """A sidecar's content."""
    sidecar = Sidecar(
        graph="step",
        precision="fp32",
        graph_sha256=bundle.manifest["files"]["step.onnx"]["sha256"],
        plan=f"{stem}.plan",
        plan_sha256=hashlib.sha256(PLAN).hexdigest(),
        flavour="tensorrt-rtx",
        tensorrt="1.4.0.76",
        gpu="ahead of time",
        compute_capability=None,
        batch=1,
        profiles={"search": [[1, 256, 256, 3]] * 3},
        state_dtype="float32",
        kept_in_float32={"node": "why"},
    )
    return {**sidecar.to_dict(), "format": FORMAT, **changes}


def write_engine(bundle, stem="step.fp32.tensorrt-rtx", **changes):
    """A plan and its sidecar in the bundle; the sidecar's path."""
    folder = bundle.path / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / f"{stem}.plan").write_bytes(PLAN)
    path = folder / f"{stem}.json"
    path.write_text(json.dumps(describe_engine(bundle, stem, **changes)))
    return path
