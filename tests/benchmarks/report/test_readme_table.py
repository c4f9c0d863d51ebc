"""README's table is what the measurements say."""

import json
import shutil
from pathlib import Path

import pytest

from relo_edge.benchmarks.report.readme_table import BEGIN, END, renew_table
from relo_edge.errors import InputError

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results"


def test_readme_is_up_to_date(tmp_path):
    readme = tmp_path / "README.md"
    shutil.copy(ROOT / "README.md", readme)
    assert not renew_table(readme, RESULTS), "run `make results`"


def write_result(folder, **row):
    folder.mkdir(exist_ok=True)
    known = {"runtime": "openvino", "precision": "int8", "batch": 1, "p50_ms": 20.04}
    known |= {"p99_ms": 30.0, "fps": 49.9, "ratio_to_reference": 5.0}
    place = {"date": "2026-01-02", "cpu": "Some CPU", "cores": 2, "bundle": "relo-t256"}
    result = {"environment": place, "rows": [{**known, **row}]}
    (folder / "a.json").write_text(json.dumps(result))


@pytest.mark.parametrize(
    ("parity", "word"),
    [
        (None, "–"),
        ({"passed": True, "judged": True, "closed_loop_iou": 0.9876}, "IoU 0.988"),
        ({"passed": True, "judged": False, "closed_loop_iou": 0.1}, "same outputs"),
        ({"passed": False, "judged": True, "closed_loop_iou": 0.1}, "**failed**"),
    ],
)
def test_a_row_is_what_was_measured(tmp_path, parity, word):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_result(tmp_path / "results", parity=parity)
    assert renew_table(readme, tmp_path / "results")
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "relo-t256 on Some CPU, 2 cores, 2026-01-02" in text
    assert f"| openvino | int8 | 1 | 20.0 | 30.0 | 49.9 | 5.00 × | {word} |" in text
    assert not renew_table(readme, tmp_path / "results")


def test_what_is_no_result_leaves_readme_alone(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}{END}")
    (tmp_path / "b.json").write_text('{"rows": []}')
    with pytest.raises(InputError, match=r"b.json: found KeyError\('environment'\)"):
        renew_table(readme, tmp_path)
    readme.write_text("no marks")
    with pytest.raises(InputError, match="no place for the table"):
        renew_table(readme, tmp_path)
    assert readme.read_text() == "no marks"


def test_a_busy_machine_never_gets_into_readme(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}{END}")
    write_result(tmp_path / "results", doubts=["other processes used 1.7 of 2 cores"])
    with pytest.raises(InputError, match=r"a.json was measured on a busy machine: found other"):
        renew_table(readme, tmp_path / "results")
    assert readme.read_text() == f"{BEGIN}{END}"
    write_result(tmp_path / "results", doubts=[])
    assert renew_table(readme, tmp_path / "results")
