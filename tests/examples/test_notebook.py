"""The notebook, run from its first cell to its last."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from shortened import write_prelude

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = Path(__file__).parents[2] / "examples" / "checkpoint_to_report.ipynb"


# In a process of its own: the client's sockets keep threads that outlive it.
RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
notebook.cells.insert(0, nbformat.v4.new_code_cell(sys.argv[3]))
nbclient.NotebookClient(notebook, timeout=580).execute()
nbformat.write(notebook, sys.argv[2])
"""


def read_text(notebook):
    """What the cells printed."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return "".join(output.get("text", "") for output in outputs)


@pytest.mark.slow
def test_the_notebook_runs_from_checkpoint_to_report(tmp_path):
    # The kernel of this environment, whatever kernels the user has.
    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    start = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": start, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    done = tmp_path / "done.ipynb"
    prelude = write_prelude("quantize", "parity", "bench", starts=False)
    subprocess.run(
        [sys.executable, "-c", RUN, NOTEBOOK, done, prelude],
        cwd=tmp_path,
        env={**os.environ, "JUPYTER_PATH": str(tmp_path)},
        check=True,
        timeout=600,
    )
    notebook = nbformat.read(done, as_version=4)
    text = read_text(notebook)
    assert "int8" in text
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    assert len(outputs) < 15, "progress is not shown"
    assert any("image/png" in str(cell.get("outputs")) for cell in notebook.cells)
    report = (tmp_path / "notebook_out" / "report.html").read_text(encoding="utf-8")
    assert "onnxruntime" in report


def test_the_notebook_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
