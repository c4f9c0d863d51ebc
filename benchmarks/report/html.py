"""One self-contained HTML file that shows what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

from relo_edge import __version__
from relo_edge.benchmarks.report.charts import (
    Series,
    draw_bars,
    draw_lines,
    draw_rugs,
    draw_scatter,
    draw_strip,
)
from relo_edge.benchmarks.report.inputs import Findings, Plain
from relo_edge.benchmarks.report.style import STYLE
from relo_edge.errors import SourceError
from relo_edge.host.files import write_text

__all__ = ["REPORT_SUFFIXES", "make_report", "write_report"]

REPORT_SUFFIXES = (".html",)

# A page that may not load or run anything shows that it does not.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

PEAK = "peak_memory_mb"
WALL_STAGES = ("decode", "crop", "copy_in", "network", "copy_out", "decode_box")
"""The device's own time is part of the network's: it would count twice in a bar."""


def write_report(findings: Findings, path: Path) -> None:
    """Replace the file in one move."""
    try:
        write_text(path, make_report(findings))
    except OSError as error:
        raise SourceError(f"{path} cannot be written", found=error.strerror) from error


def make_report(findings: Findings) -> str:
    """The page."""
    parts = [_draw_head(findings)]
    if findings.bench:
        parts += _draw_bench(findings.bench)
    if scatter := _draw_trade(findings):
        parts.append(scatter)
    if findings.evals:
        parts += _draw_accuracy(findings.evals)
    parts += [_draw_parity(parity) for parity in findings.parities]
    if findings.bench:
        parts.append(_draw_machine(findings.bench["environment"]))
    title = "relo-edge report"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + f"\n<p><small>made by relo-edge {__version__}</small></p>\n</body>\n</html>\n"
    )


def _draw_head(findings: Findings) -> str:
    """The verdict in one sentence, and the fastest runtime that passed."""
    rows = findings.bench["rows"] if findings.bench else []
    proofs = [(_name(row), row["parity"]["passed"]) for row in rows if row["parity"]]
    proofs += [(_name(parity), parity["passed"]) for parity in findings.parities]
    failed = list(dict.fromkeys(name for name, passed in proofs if not passed))
    if failed:
        kind, verdict = "bad", f"Not the same tracker: {', '.join(failed)}"
    elif proofs:
        count = len(dict.fromkeys(name for name, _ in proofs))
        kind, verdict = "good", f"{count} of {count} within their gates against PyTorch"
    elif not rows and len(findings.evals) > 1:
        datasets = ", ".join(dict.fromkeys(_name_dataset(found) for found in findings.evals))
        kind, verdict = "open", f"{len(findings.evals)} evaluations on {datasets}"
    else:
        kind, verdict = "open", "Measured without a proof that it is the same tracker"
    lines = [f"<h1><strong>{escape(verdict)}</strong></h1>"]
    sound = [row for row in rows if row["parity"] and row["parity"]["passed"]]
    if sound:
        best = max(sound, key=lambda row: row["fps"] * row["batch"])
        ratio = best["ratio_to_reference"]
        words = f"Fastest within its gate: {_name(best)}, {best['fps']:.1f} FPS"
        if best.get("doubts"):
            words += "; measured on a busy machine, so no ratio is given"
        elif ratio:
            words += f", {ratio:.2f} × PyTorch in the same run"
        lines.append(f"<p>{escape(words)}</p>")
    doubts = dict.fromkeys(doubt for row in rows for doubt in row.get("doubts", ()))
    if doubts:
        note = f"The machine was busy, ratios are not to be trusted: {'; '.join(doubts)}."
        lines.append(f'<p class="bad">{escape(note)}</p>')
    if any(row["parity"] and not row["parity"]["judged"] for row in rows):
        note = "Outputs are compared; the track is not judged, as the reference itself is lost."
        lines.append(f'<p class="soft">{note}</p>')
    return f'<header class="{kind}">{"".join(lines)}</header>'


def _draw_bench(bench: Plain) -> Iterator[str]:
    rows = bench["rows"]
    yield _draw_section("Time per frame", _draw_table(rows))
    names = _tell_apart([_name(row) for row in rows])
    times = {name: row["times_ms"] for name, row in zip(names, rows, strict=True)}
    hint = "Every timed frame; the bar is the median, the band goes to the 90th percentile."
    yield _draw_section(
        "Latency distributions", f'<p class="soft">{hint}</p>{draw_rugs(times, "ms")}'
    )
    stages = {
        name: {s: row["stages_ms"][s] for s in WALL_STAGES if row["stages_ms"].get(s)}
        for name, row in zip(names, rows, strict=True)
        if "network" in row["stages_ms"]
    }
    if stages:
        yield _draw_section("Where the time goes", draw_bars(stages, "ms"))


def _draw_table(rows: Iterable[Plain]) -> str:
    """The speed table, parity beside it, so that a narrow screen shows both."""
    titles = ("p50 ms", "p90 ms", "p99 ms", "FPS", "ratio", "start ms", "peak MB")
    head = '<th></th><th class="words">parity</th>' + "".join(f"<th>{t}</th>" for t in titles)
    lines, notes = [f"<tr>{head}</tr>"], []
    for row in rows:
        ratio, start, peak = row["ratio_to_reference"], row.get("start_up_ms"), row.get(PEAK)
        cells = [f"{row[key]:.1f}" for key in ("p50_ms", "p90_ms", "p99_ms", "fps")]
        mark = " ?" if row.get("doubts") else ""
        cells += [f"{ratio:.2f} ×{mark}" if ratio else "–"]
        cells += [f"{number:.0f}" if number else "–" for number in (start, peak)]
        kind, words = _describe_proof(row)
        proof = f'<td class="words {kind}">{escape(words)}</td>'
        plain = "".join(f"<td>{cell}</td>" for cell in cells)
        lines.append(f"<tr><td>{escape(_name(row))}</td>{proof}{plain}</tr>")
        if kind == "bad":
            failures = "; ".join(row["parity"]["failures"])
            notes.append(
                f'<p class="bad"><strong>{escape(_name(row))}</strong>: {escape(failures)}</p>'
            )
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>{"".join(notes)}'


def _describe_proof(row: Plain) -> tuple[str, str]:
    proof = row["parity"]
    if proof is None:
        roles = {"reference": "reference", "peer": "another tracker"}
        return "", roles.get(row["role"], "not proven")
    if not proof["judged"]:
        return ("good", "same outputs") if proof["passed"] else ("bad", "other outputs")
    iou = _show(proof["closed_loop_iou"])
    return ("good", f"same, IoU {iou}") if proof["passed"] else ("bad", f"not the same, IoU {iou}")


def _draw_trade(findings: Findings) -> str | None:
    """Accuracy against speed: by dataset where one was evaluated, else by closed-loop IoU."""
    rows = findings.bench["rows"] if findings.bench else []
    series, title = [], "AUC"
    for found in findings.evals:
        for row in rows:
            if row["batch"] == 1 and _match_run(row, found["run"]) and found["auc"] is not None:
                name = f"{_name(row)}, {_name_dataset(found)}"
                series.append(Series(name, [(row["fps"], found["auc"])]))
    if not series:
        judged = [row for row in rows if row["parity"] and row["parity"]["judged"]]
        series = [
            Series(_name(row), [(row["fps"], row["parity"]["closed_loop_iou"] or 0.0)])
            for row in judged
        ]
        title = "closed-loop IoU with PyTorch"
    if not series:
        return None
    chart = draw_scatter(series, "frames per second", title)
    return _draw_section("Accuracy against speed", f'<div class="plot">{chart}</div>')


def _match_run(row: Plain, run: Plain) -> bool:
    return bool(all(row[key] == run.get(key) for key in ("runtime", "precision")))


def _draw_accuracy(evals: list[Plain]) -> Iterator[str]:
    figures = {"auc": "AUC", "precision": "P", "norm_precision": "P norm", "ao": "AO"}
    figures |= {"sr50": "SR50", "sr75": "SR75"}
    titles = ("", *figures.values(), "FPS", "sequences")
    lines = ["<tr>" + "".join(f"<th>{title}</th>" for title in titles) + "</tr>"]
    for found in evals:
        told = {key: found.get(key) for key in (*figures, "fps")}
        cells = [_show_scaled(told[key], 1 if key == "fps" else 100) for key in told]
        cells = [escape(_name_eval(found)), *cells, str(len(found["sequences"]))]
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    table = f'<div class="scroll"><table>{"".join(lines)}</table></div>'
    yield _draw_section("Accuracy", table)
    scored = [found for found in evals if found["curves"]]
    if scored:
        plots = [
            ("Success", "success", "overlap", "overlap threshold"),
            ("Precision", "precision", "centre", "centre error in pixels"),
        ]
        drawn = [
            _draw_section(title, f'<div class="plot">{_draw_curves(scored, *names)}</div>')
            for title, *names in plots
        ]
        yield f'<div class="pair">{"".join(drawn)}</div>'


def _draw_curves(evals: list[Plain], curve: str, axis: str, title: str) -> str:
    series = [
        Series(
            _name_eval(found),
            list(zip(found["curves"]["thresholds"][axis], found["curves"][curve], strict=True)),
        )
        for found in evals
    ]
    return draw_lines(series, title, "share of frames")


def _draw_parity(parity: Plain) -> str:
    verdict = "within its gate" if parity["passed"] else "beyond its gate"
    head = f"{_name(parity)} against PyTorch: {verdict}"
    facts = f"closed-loop IoU {_show(parity['closed_loop_iou'])}, same cell in "
    facts += f"{_show(parity['argmax_agreement'])} of {parity['judged_frames']} judged frames"
    lines = [f"<p>{facts}</p>"]
    lines += [f"<p>{escape(failure)}</p>" for failure in parity["failures"]]
    causes = [(escape(cause["part"]), escape(cause["what"])) for cause in parity["causes"]]
    lines += [f"<p><strong>{part}</strong>: {what}</p>" for part, what in causes]
    hint = "Overlap of the two tracks, frame by frame: the fuller, the closer. A red mark: on the "
    hint += "same crop another cell was chosen."
    lines.append(f'<p class="soft">{hint}</p>')
    for clip in parity["clips"]:
        # A box of NaN has no overlap, and JSON no NaN.
        frames = clip["frames"]
        overlaps = [frame["iou"] or 0.0 for frame in frames]
        moved = [not frame["same_cell"] for frame in frames]
        strip = draw_strip(overlaps, moved, [frame["frame"] for frame in frames])
        mean = sum(overlaps) / len(overlaps)
        lines.append(
            f'<div class="row"><b>{escape(clip["name"])}</b><div>{strip}</div>'
            f"<em>{mean:.3f}</em></div>"
        )
    lines.append(_draw_pictures(parity["pictures"]))
    kind = "good" if parity["passed"] else "bad"
    return _draw_section(head, "".join(lines), kind)


def _draw_pictures(pictures: list[Plain]) -> str:
    drawn = [
        f'<figure><img alt="both boxes" src="data:image/jpeg;base64,{escape(picture["jpeg"])}">'
        f"<figcaption>{escape(picture['clip'])}, frame {picture['frame']}: overlap "
        f"{_show(picture['iou'])}. Green is PyTorch, red the other.</figcaption></figure>"
        for picture in pictures
    ]
    return f'<div class="pair">{"".join(drawn)}</div>' if drawn else ""


def _draw_machine(environment: Plain) -> str:
    lines = [
        f"<tr><td>{escape(str(name))}</td><td>{escape(str(value))}</td></tr>"
        for name, value in environment.items()
    ]
    return _draw_section("Measured on", f'<table class="facts">{"".join(lines)}</table>')


def _draw_section(title: str, content: str, kind: str = "") -> str:
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{content}</section>'


def _show_scaled(value: float | None, factor: int) -> str:
    return "–" if value is None else f"{factor * value:.1f}"


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _name(found: Any) -> str:
    batch = f" ×{found['batch']}" if found.get("batch", 1) > 1 else ""
    return f"{found['runtime']} {found['precision']}{batch}"


def _tell_apart(names: list[str]) -> list[str]:
    """Two peers of one kind have the same name: the second is numbered."""
    counts = Counter[str]()
    told = []
    for name in names:
        counts[name] += 1
        told.append(f"{name} ({counts[name]})" if counts[name] > 1 else name)
    return told


def _name_eval(found: Plain) -> str:
    run = found["run"]  # results of 0.1 do not name their tracker
    tracker = found.get("tracker") or f"{run.get('runtime', '?')} {run.get('precision', '?')}"
    return f"{_name_dataset(found)}, {tracker}"


def _name_dataset(found: Plain) -> str:
    """Its folder's name beside its layout; results of 0.1 have the layout alone."""
    layout, name = found["dataset"], found.get("dataset_name")
    return f"{name} ({layout})" if name else str(layout)
