"""Charts as inline SVG and HTML: no scripts, files or fonts to load."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Series", "draw_bars", "draw_lines", "draw_rugs", "draw_scatter", "draw_strip"]

WIDTH, HEIGHT = 420, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 40
COLORS = 6
"""How many the style has; a seventh series begins again, with a dashed line."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """One line or cloud of points, and its name in the legend."""

    name: str
    points: Points


@dataclass(frozen=True)
class _Scale:
    """From values to places on an axis."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def list_ticks(self) -> list[float]:
        """Round values, four to eight of them."""
        span = self.high - self.low
        step = 10 ** math.floor(math.log10(span / 4))
        step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 6)
        first = math.ceil(self.low / step - 1e-9)
        return [step * index for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


def draw_lines(series: Sequence[Series], x_title: str, y_title: str) -> str:
    """Curves over a common axis; both start at 0, the vertical one ends at 1."""
    x = _Scale(0, max(x for one in series for x, _ in one.points), LEFT, WIDTH - RIGHT)
    y = _Scale(0, 1, HEIGHT - BOTTOM, TOP)
    lines = [
        f'<polyline class="line {_name_color(index)}" points="{_join_points(one.points, x, y)}">'
        f"<title>{escape(one.name)}</title></polyline>"
        for index, one in enumerate(series)
    ]
    return _frame_plot(x, y, x_title, y_title, lines) + _draw_legend([s.name for s in series])


def draw_scatter(series: Sequence[Series], x_title: str, y_title: str) -> str:
    """One point for each series, named in the legend: a label in the plot would hit another."""
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    low = max(0.0, min(ys) - 0.1)
    x = _Scale(0, 1.1 * max(xs) or 1.0, LEFT, WIDTH - RIGHT)
    y = _Scale(low, max(1.02 * max(ys), low + 0.01), HEIGHT - BOTTOM, TOP)
    dots = [
        f'<circle class="dot {_name_color(index)}" cx="{x.place(a):.1f}" cy="{y.place(b):.1f}"'
        f' r="6"><title>{escape(one.name)}: {a:.1f}, {b:.3f}</title></circle>'
        for index, one in enumerate(series)
        for a, b in one.points
    ]
    return _frame_plot(x, y, x_title, y_title, dots) + _draw_legend([s.name for s in series])


def draw_rugs(rows: Mapping[str, Sequence[float]], unit: str) -> str:
    """Every value of a row as a tick on a common axis from 0, the median as a thick one."""
    most = max(value for values in rows.values() for value in values)
    drawn = []
    for name, values in rows.items():
        ranked = sorted(values)
        median, last = ranked[len(ranked) // 2], ranked[min(len(ranked) - 1, len(ranked) * 9 // 10)]
        ticks = "".join(
            f'<rect class="tick" x="{1000 * value / most - 1:.1f}" y="6" width="2" height="28"/>'
            for value in ranked
        )
        band = f'<rect class="band" x="{1000 * median / most:.1f}" y="12" height="16" width="'
        band += f'{max(1000 * (last - median) / most, 1):.1f}"/>'
        middle = f'<rect class="middle" x="{1000 * median / most - 3:.1f}" y="2"'
        middle += ' width="6" height="36"/>'
        svg = f'<svg viewBox="0 0 1000 40" preserveAspectRatio="none">{band}{ticks}{middle}</svg>'
        drawn.append(_draw_row(name, svg, f"{median:.1f} {unit}"))
    axis = f'<div class="axis"><span>0</span><span>{most:.0f} {unit}</span></div>'
    return "".join(drawn) + _draw_row("", axis, "")


def draw_bars(rows: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """Stacked bars on a common axis, each part in its own colour."""
    parts = list(dict.fromkeys(part for stages in rows.values() for part in stages))
    most = max(sum(stages.values()) for stages in rows.values())
    drawn = []
    for name, stages in rows.items():
        pieces = "".join(
            f'<i class="{_name_color(parts.index(part))}" style="width:{100 * value / most:.3f}%"'
            f' title="{escape(part)} {value:.2f} {unit}"></i>'
            for part, value in stages.items()
        )
        bar = f'<div class="bar">{pieces}</div>'
        drawn.append(_draw_row(name, bar, f"{sum(stages.values()):.1f} {unit}"))
    return "".join(drawn) + _draw_legend(parts)


def draw_strip(values: Sequence[float], marked: Sequence[bool], numbers: Sequence[int]) -> str:
    """A cell for each frame's value from 0 to 1, the fuller the better; a mark below some."""
    cells = []
    for index, (value, mark, number) in enumerate(zip(values, marked, numbers, strict=True)):
        title = f"<title>frame {number}: {value:.3f}</title>"
        shade = f'style="opacity:{0.08 + 0.92 * min(max(value, 0.0), 1.0):.2f}"'
        cells.append(f'<rect class="cell" {shade} x="{index}" width="1" height="10">{title}</rect>')
        if mark:
            cells.append(f'<rect class="mark" x="{index}" y="10.6" width="1" height="1.6"/>')
    box = f'viewBox="0 0 {len(values)} 12.4" preserveAspectRatio="none"'
    return f'<svg class="strip" {box}>{"".join(cells)}</svg>'


def _draw_row(name: str, content: str, value: str) -> str:
    words = f"<b>{escape(name)}</b>", f"<em>{escape(value)}</em>"
    return f'<div class="row">{words[0]}<div>{content}</div>{words[1]}</div>'


def _draw_legend(names: Sequence[str]) -> str:
    keys = "".join(
        f'<span><i class="{_name_color(index)}"></i>{escape(name)}</span>'
        for index, name in enumerate(names)
    )
    return f'<p class="legend">{keys}</p>'


def _name_color(index: int) -> str:
    return f"c{index % COLORS}" + (" again" if index >= COLORS else "")


def _join_points(points: Points, x: _Scale, y: _Scale) -> str:
    return " ".join(f"{x.place(a):.1f},{y.place(b):.1f}" for a, b in points)


def _frame_plot(x: _Scale, y: _Scale, x_title: str, y_title: str, content: list[str]) -> str:
    """Grid, numbers and titles around the content."""
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y.place(t):.1f}"'
        f' y2="{y.place(t):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y.place(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
        for t in (round(tick, 6) for tick in y.list_ticks())
    ]
    parts += [
        f'<text x="{x.place(t):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{t:g}</text>'
        for t in (round(tick, 6) for tick in x.list_ticks())
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="title" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"{escape(x_title)}</text>"
    )
    parts.append(
        f'<text class="title" transform="translate(12 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"'
        f' text-anchor="middle">{escape(y_title)}</text>'
    )
    label = f'role="img" aria-label="{escape(y_title)} over {escape(x_title)}"'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" {label}>{"".join(parts + content)}</svg>'
