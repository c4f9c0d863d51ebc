"""The notebook, run from its first cell to its last."""

import json
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = Path(__file__).parents[2] / "examples" / "checkpoint_to_report.ipynb"


def read_text(notebook):
    """What the cells printed."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return "".join(output.get("text", "") for output in outputs)


@pytest.mark.slow
def test_the_notebook_runs_from_checkpoint_to_report(tmp_path, monkeypatch):
    # The kernel of this environment, whatever kernels the user has.
    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    start = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": start, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=580, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    text = read_text(notebook)
    assert "int8" in text
    assert any("image/png" in str(cell.get("outputs")) for cell in notebook.cells)
    report = (tmp_path / "notebook_out" / "report.html").read_text(encoding="utf-8")
    assert "onnxruntime" in report


def test_the_notebook_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
