"""Pictures of what was measured, as PNG for reading and SVG for printing. Needs matplotlib; opens no window.

One axis system a picture, recessive grid, few colours that differ in lightness too; the same numbers stand in tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from guardproxy.evaluation.calibrate import Bins
from guardproxy.evaluation.metrics import Estimate, Floats

_BEFORE, _AFTER, _LIGHT, _GREY, _INK = "#d97706", "#1d4ed8", "#93b4f5", "#9ca3af", "#1f2937"
_LINES = ("#1d4ed8", "#d97706", "#047857", "#be185d", "#6d28d9", "#0e7490", "#65a30d", "#78350f")
_FEW = 0.01  # share of the rows
_STYLE: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "svg.hashsalt": "guardproxy",
    "svg.fonttype": "none",
}


def reliability(title: str, panels: Sequence[tuple[str, Bins, Bins, str, str]], to: Path) -> list[Path]:
    """How often what is said to have a probability is true. A panel: label, bins before and after, what to say of each.

    Bins are (mean probability, share that is true, weight); those with fewer than 1 % of the rows are small. Below each
    panel, how many rows are where.
    """
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.5 * columns + 0.3, 4.2 * lines + 0.6), layout="constrained")
        figure.suptitle(title, fontsize=12, fontweight="bold", x=0.01, ha="left")
        grid = figure.add_gridspec(lines, columns)
        for number, panel in enumerate(panels):
            place = grid[number // columns, number % columns]
            _reliability(figure, place.subgridspec(2, 1, height_ratios=(3.4, 1), hspace=0.04), *panel)
        return _save(figure, to)


def _reliability(figure: Figure, grid: Any, label: str, before: Bins, after: Bins, said: str, now: str) -> None:
    above, below = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    above.plot((0, 1), (0, 1), color=_GREY, linewidth=1, linestyle=(0, (4, 3)))
    width = 0.04
    for bins, color, name, mark, shift in (
        (before, _BEFORE, said, "s", -width / 2),
        (after, _AFTER, now, "o", width / 2),
    ):
        if not bins:
            continue
        total = sum(weight for _, _, weight in bins) or 1.0
        # Bins of a few rows are anywhere; they are shown small and not joined.
        many = [(mean, share) for mean, share, weight in bins if weight >= _FEW * total]
        few = [(mean, share) for mean, share, weight in bins if weight < _FEW * total]
        above.plot(*_columns(many), color=color, marker=mark, markersize=4.5, label=name, clip_on=False, zorder=3)
        above.plot(*_columns(few), color=color, marker=mark, markersize=3, fillstyle="none", linestyle="", zorder=2)
        places = [(min(int(p * 10), 9) + 0.5) / 10 + shift for p, _, _ in bins]
        below.bar(places, [weight / total for _, _, weight in bins], width, color=color)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is true")
    above.set_title(label, pad=34)
    above.tick_params(labelbottom=False)
    above.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.01), fontsize=8, handlelength=1.4, borderaxespad=0)
    below.set(xlim=(0, 1), yscale="log", ylim=(1e-3, 1.5), xlabel="probability", ylabel="rows")
    below.set_yticks((0.001, 0.01, 0.1, 1), labels=("0.1 %", "1 %", "10 %", "all"))
    below.minorticks_off()


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def precision_recall(title: str, curves: Mapping[str, tuple[Floats, Floats]], to: Path) -> list[Path]:
    """Precision over recall, a line each. `curves`: by what stands in the legend, (recall, precision)."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.add_subplot()
        for number, (name, (recall, precision)) in enumerate(curves.items()):
            style = "-" if number < len(_LINES) else "--"
            axes.step(
                recall, precision, style, where="post", linewidth=1.5, color=_LINES[number % len(_LINES)], label=name
            )
        axes.set(xlim=(0, 1.005), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title=title)
        if curves:
            figure.legend(loc="outside right upper", fontsize=8)
        return _save(figure, to)


def bars(title: str, label: str, values: Mapping[str, Estimate], limit: float | None, to: Path) -> list[Path]:
    """Shares with their intervals, a horizontal bar each, the largest first. `limit`: a line to stay below."""
    ordered = sorted(values.items(), key=lambda item: item[1].value)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 0.24 * len(ordered) + 1.2), layout="constrained")
        axes = figure.add_subplot()
        places = list(range(len(ordered)))
        shares = [each.value for _, each in ordered]
        low = [max(each.value - each.low, 0) for _, each in ordered]
        high = [max(each.high - each.value, 0) for _, each in ordered]
        axes.barh(places, shares, 0.62, color=_LIGHT, xerr=(low, high), ecolor=_INK, error_kw={"linewidth": 0.9})
        axes.set_yticks(places, labels=[name for name, _ in ordered], fontsize=8)
        axes.set(xlim=(0, 1), ylim=(-0.6, len(ordered) - 0.4), xlabel=label, title=title)
        axes.grid(visible=False, axis="y")
        if limit is not None:
            axes.axvline(limit, color=_BEFORE, linewidth=1.2, linestyle=(0, (4, 3)))
        return _save(figure, to)


def _save(figure: Figure, to: Path) -> list[Path]:
    """Writes `to`.png and `to`.svg, the same bytes for the same figure."""
    to.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    files = [to.with_name(f"{to.name}.{kind}") for kind in ("png", "svg")]
    figure.savefig(files[0], dpi=130, metadata={"Software": None})
    figure.savefig(files[1], metadata={"Date": None})
    # The writer of SVG leaves spaces at the ends of lines.
    files[1].write_text("\n".join(line.rstrip() for line in files[1].read_text("utf-8").splitlines()) + "\n", "utf-8")
    return files
