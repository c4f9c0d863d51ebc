"""Records accuracy.json: the public evaluation code's own figures for made-up boxes.

    python tests/data/record_accuracy.py CHECKOUT

CHECKOUT is a tracker of the release's lineage (its `lib/test/analysis/extract_results.py` is run
as it is); the `got10k` package must be importable. Both only record; no test needs them.
"""

import importlib
import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

PICTURE = (320, 240)


def draw_track(seed, frames=60):
    """A wandering target, and a tracker that loses it now and then."""
    random = np.random.default_rng(seed)
    steps = random.normal(0, [4, 3, 1, 1], (frames, 4)).cumsum(axis=0)
    truth = np.array([150.0, 110, 40, 30]) + steps
    truth[:, 2:] = np.maximum(truth[:, 2:], 8)
    errors = random.normal(0, [3, 3, 3, 2], (frames, 4))
    errors[30:40] += [35, -12, 0, 0]
    boxes = truth + errors
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 10)
    return boxes.round(3), truth.round(seed % 2 * 2)


def make_cases():
    """Boxes, truth and what the datasets do about absent targets."""
    cases = []
    for seed, dataset in enumerate(["otb", "nfs", "uav", "lasot", "tnl2k", "got10k"]):
        boxes, truth = draw_track(seed)
        hidden = np.zeros(len(truth), bool)
        if dataset == "uav":
            truth[20:25] = np.nan
        if dataset == "lasot":
            hidden[15:22], truth[20:24] = True, 0
        if dataset == "tnl2k":
            truth[20:24] = 0
        if dataset == "got10k":
            boxes[:, 0], truth[:, 0] = boxes[:, 0] - 160, truth[:, 0] - 160
            hidden[40:44] = True
        boxes[0] = truth[0]
        cases.append((dataset, boxes, truth, hidden))
    return cases


def record_release(checkout, cases):
    """Run the release's analysis on result files."""
    sys.path.insert(0, checkout)
    analysis = importlib.import_module("lib.test.analysis.extract_results")
    with tempfile.TemporaryDirectory() as folder:
        analysis.env_settings = lambda: SimpleNamespace(result_plot_path=folder)
        rows, parameters = (
            [],
            SimpleNamespace(
                results_dir=folder, name="t", parameter_name="p", run_id=None, display_name="t"
            ),
        )
        for dataset, boxes, truth, hidden in cases:
            for place in (Path(folder, dataset), Path(folder)):
                place.mkdir(exist_ok=True)
                np.savetxt(place / "case.txt", boxes, delimiter="\t")
            visible = ~hidden if dataset == "lasot" else None
            sequence = SimpleNamespace(
                name="case", dataset=dataset, ground_truth_rect=truth, target_visible=visible
            )
            rows.append(analysis.extract_results([parameters], [sequence], dataset))
    return rows


def record_toolkit(cases):
    """Run the GOT-10k toolkit's metrics: frame 0 left out, hidden frames too."""
    from got10k.experiments import ExperimentGOT10k
    from got10k.utils.metrics import rect_iou

    experiment, rows = ExperimentGOT10k.__new__(ExperimentGOT10k), []
    for dataset, boxes, truth, hidden in cases:
        shown = ~hidden & (truth[:, 2:] > 0).all(axis=1)
        bound = PICTURE if dataset == "got10k" else None
        overlaps = rect_iou(boxes[1:].copy(), truth[1:].copy(), bound=bound)[shown[1:]]
        ao, sr50, _, curve = experiment._evaluate(overlaps, np.ones(1))
        rows.append({"ao": ao, "sr50": sr50, "sr75": curve[75], "n": len(overlaps)})
    return rows


def main():
    """Write what both say beside the boxes that they were given."""
    cases = make_cases()
    pairs = zip(cases, record_release(sys.argv[1], cases), record_toolkit(cases), strict=True)
    stored = [
        {
            "dataset": dataset,
            "boxes": boxes.tolist(),
            "truth": np.where(np.isnan(truth), None, truth).tolist(),
            "hidden": hidden.nonzero()[0].tolist(),
            "success": release["ave_success_rate_plot_overlap"][0][0],
            "precision": release["ave_success_rate_plot_center"][0][0],
            "norm_precision": release["ave_success_rate_plot_center_norm"][0][0],
            **toolkit,
        }
        for (dataset, boxes, truth, hidden), release, toolkit in pairs
    ]
    target = Path(__file__).with_name("accuracy.json")
    target.write_text("\n".join(["[", ",\n".join(map(json.dumps, stored)), "]"]) + "\n")


if __name__ == "__main__":
    main()
