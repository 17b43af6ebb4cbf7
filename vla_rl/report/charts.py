"""Learning curves as inline SVG whose colours follow the page's light or dark scheme."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Metrics = Sequence[Mapping[str, Any]]
# Matplotlib knows no CSS variables: it draws in these colours, which are replaced afterwards.
_COLOURS = {
    "#010101": "--sky",
    "#020202": "--soft",
    "#030303": "--line",
    "#040404": "--blue",
    "#050505": "--amber",
    "#060606": "--good",
    "#070707": "--bad",
}
_SKY, _SOFT, _LINE, _BLUE, _AMBER, _GOOD, _BAD = _COLOURS
SHIFT = "a shift was noticed"
GROUP_COLOURS = tuple(f"--group-{number}" for number in range(8))
"""What groups of runs are drawn in, in their order; a ninth begins again."""
_COLOURS |= {f"#1{number}1{number}1{number}": name for number, name in enumerate(GROUP_COLOURS)}
_GROUPS = tuple(_COLOURS)[-len(GROUP_COLOURS) :]


@dataclass(frozen=True)
class Chart:
    """An inline SVG, its legend, (what a line shows, the page's colour of it), and how to read it."""

    title: str
    legend: tuple[tuple[str, str], ...]
    svg: str
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """A group's mean over its runs, float [T] at `steps`, with the ends of its interval; and each run's own line.

    group: its place among the groups, which colours it.
    """

    label: str
    group: int
    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: tuple[tuple[np.ndarray, np.ndarray], ...] = ()


def learning_charts(metrics: Metrics, start: tuple[str, float] | None = None) -> list[Chart]:
    """The charts that `metrics` has the keys for.

    `start`: the name and success (percent) of the policy that training started from, drawn as a line.
    """
    charts = []
    training, checked = series(metrics, "train/success_rate", 100.0), series(metrics, "eval/pc_success")
    if training[0] or checked[0]:
        axes = _axes("success, %")
        axes.set_ylim(-2, 102)
        if start and not math.isnan(start[1]):
            axes.axhline(start[1], color=_SOFT, linewidth=1.4, linestyle=(0, (4, 4)), label=start[0].lower())
        axes.plot(*training, color=_SKY, linewidth=1.8, label="while exploring")
        axes.plot(*checked, color=_BLUE, linewidth=2.4, marker="o", markersize=5.5, label="greedy, on validation seeds")
        for step in noticed(metrics):
            label = "_" if axes.get_legend_handles_labels()[1][-1:] == [SHIFT] else SHIFT
            axes.axvline(step, color=_BAD, linewidth=1.6, linestyle=(0, (1, 2)), label=label)
        charts.append(_chart("Success while learning", axes))
    cost = series(metrics, "train/cost")
    if any(cost[1]):
        axes = _axes("cost of an episode")
        axes.plot(*cost, color=_AMBER, linewidth=2.2, label="while exploring")
        charts.append(_chart("What episodes cost", axes))
    value, observed = series(metrics, "q/mean"), series(metrics, "q/return")
    if value[0]:
        axes = _axes("discounted return")
        axes.plot(*observed, color=_AMBER, linewidth=2.2, label="return that came")
        axes.plot(*value, color=_BLUE, linewidth=2.2, label="critic's estimate (Q)")
        charts.append(_chart("What the critic expects, and what comes", axes))
    return charts


def curves_chart(title: str, label: str, curves: Sequence[Curve], share: bool = False, below: str = "") -> Chart:
    """Groups of runs beside one another: the mean of each, its band, and thin lines of its runs.

    share: of 100. below: what the steps are; "" for the environment's.
    """
    axes = _axes(label, below or "environment steps")
    if share:
        axes.set_ylim(-2, 102)
    for curve in curves:
        colour = _GROUPS[curve.group % len(_GROUPS)]
        if len(curve.runs) > 1:
            axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
            for steps, values in curve.runs:
                axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.45)
        marker = "o" if len(curve.steps) <= 24 else None
        axes.plot(
            curve.steps, curve.mean, color=colour, linewidth=2.3, marker=marker, markersize=4.5, label=curve.label
        )
    return _chart(title, axes)


def ends_chart(won: Sequence[int], lost: Sequence[int]) -> Chart:
    """When episodes end: how many of each length, in simulator steps, by whether they succeeded."""
    axes = _axes("episodes", "steps of the simulator")
    most = max([*won, *lost])
    bins = np.linspace(0.5, most + 0.5, min(most, 24) + 1)
    counts = [np.histogram(lengths, bins)[0] for lengths in (won, lost)]
    width = 0.9 * (bins[1] - bins[0])
    middles = (bins[:-1] + bins[1:]) / 2
    axes.bar(middles, counts[0], width, color=_GOOD)
    axes.bar(middles, counts[1], width, bottom=counts[0], color=_BAD)
    axes.set_ylim(top=1.06 * max(counts[0] + counts[1]))
    axes.yaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]  # of the MaxNLocator it is
    for colour, label, lengths in ((_GOOD, "success", won), (_BAD, "failure", lost)):
        if lengths:
            axes.plot([most], [0], color=colour, linewidth=0, label=label)
    return _chart("When episodes end", axes)


def expectation_chart(kinds: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> Chart:
    """Q through episodes that succeed and that fail: (what kind, share of the episode [T], mean Q [T])."""
    axes = _axes("mean Q", "share of the episode")
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
    for kind, shares, values in kinds:
        if len(shares):
            axes.plot(shares, values, color=_GOOD if kind == "success" else _BAD, linewidth=2.2, label=kind)
    return _chart("What the critic expects as an episode goes on", axes)


def calibration_chart(
    expected: Sequence[float], came: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> Chart:
    """What the critic expected against the discounted return that came, each with its interval."""
    axes = _axes("return that came", "Q, the return that was expected")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ends = [min(*expected, *low), max(*expected, *high)]
    axes.plot(ends, ends, color=_SOFT, linewidth=1.4, linestyle=(0, (4, 4)), label="as expected")
    axes.vlines(expected, low, high, color=_BLUE, linewidth=2, alpha=0.45)
    axes.plot(expected, came, color=_BLUE, linewidth=2.2, marker="o", markersize=5.5, label="came, with its interval")
    return _chart("Is Q what comes?", axes)


def series(metrics: Metrics, key: str, scale: float = 1.0) -> tuple[list[float], list[float]]:
    """The steps and the finite values of one key."""
    rows = [(row["step"], scale * row[key]) for row in metrics if isinstance(row.get(key), (int, float))]
    rows = [(step, value) for step, value in rows if math.isfinite(value)]
    return [float(step) for step, _ in rows], [float(value) for _, value in rows]


def noticed(metrics: Metrics) -> list[float]:
    """The steps at which it was told that one shift more of the world had been noticed."""
    steps, alarms = series(metrics, "shift/alarms")
    return [step for step, now, before in zip(steps, alarms, [0.0, *alarms], strict=False) if now > before]


def _axes(label: str, below: str = "environment steps") -> Axes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 2.9), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.subplots()
    axes.patch.set_alpha(0.0)
    axes.set_ylabel(label, color=_SOFT)
    axes.set_xlabel(below, color=_SOFT)
    axes.tick_params(colors=_SOFT, length=0, pad=6)
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    axes.grid(axis="y", color=_LINE, linewidth=1)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_LINE)
    return axes


def _chart(title: str, axes: Axes) -> Chart:
    """The axes' figure as an SVG element that refers to nothing outside itself."""
    import matplotlib

    lines = [
        line
        for line in axes.get_lines()
        if len(line.get_xdata()) and not str(line.get_label()).startswith("_")  # type: ignore[arg-type]
    ]
    legend = tuple((str(line.get_label()), _COLOURS[str(line.get_color())]) for line in lines)
    figure, buffer = axes.get_figure(root=True), io.StringIO()
    assert figure is not None, title
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    for colour, name in _COLOURS.items():
        text = text.replace(colour, f"var({name})")
    return Chart(title, legend, text.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1))
