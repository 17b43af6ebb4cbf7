"""The page of `vla-rl compare`: curves with bands, success and its differences, settings, films side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vla_rl.report import charts
from vla_rl.report.document import chart_cards, document, escape, heading, percent_text, range_bar, section
from vla_rl.report.groups import BY_EPISODES, Estimate, Group, curve, difference, differences, success, tasks_of
from vla_rl.report.player import Budget, player
from vla_rl.report.runs import Tried

SHOWN = (
    ("eval/pc_success", "Success on validation seeds, acting greedily", "success, %", 1.0),
    ("train/success_rate", "Success while exploring", "success, %", 100.0),
    ("train/cost", "What episodes cost", "cost of an episode", 1.0),
    ("q/mean", "What the critic expects", "discounted return", 1.0),
    ("sft/loss", "Loss of the supervised start", "cross-entropy", 1.0),
)
"""Metrics that are drawn where runs have them: key, title, the axis' label, and what one is multiplied by."""
MOST_FILMS = 4
"""Rows of films."""
_FEW = 5


def page(groups: Sequence[Group], title: str, metrics: Sequence[str] = (), folder: Path | None = None) -> str:
    """The whole page as HTML. metrics: further keys of `metrics.jsonl` to draw. folder: where the page will lie."""
    runs = sum(len(group.runs) for group in groups)
    subtitle = f"{runs} run{'s' * (runs > 1)} in {len(groups)} group{'s' * (len(groups) > 1)} of equal settings"
    return document(
        title,
        [
            heading(title, subtitle),
            _tiles(groups),
            _success(groups),
            section("Learning", chart_cards(_charts(groups, metrics)), _how_read(groups)),
            _settings(groups),
            _films(groups, Budget(page=folder)),
            _runs(groups),
            _footer(),
        ],
    )


def _charts(groups: Sequence[Group], metrics: Sequence[str]) -> list[charts.Chart]:
    wanted = [*SHOWN, *((key, key, key, 1.0) for key in metrics if key not in {shown[0] for shown in SHOWN})]
    drawn = []
    for key, title, label, scale in wanted:
        curves = [found for group in groups if (found := curve(group, key, scale))]
        if curves and any(each.mean.any() for each in curves):
            below = "updates" if key.startswith("sft/") else ""
            drawn.append(charts.curves_chart(title, label, curves, label == "success, %", below))
    return drawn


def _dot(group: Group) -> str:
    return f'<i class="key" style="background:var({colour(group)})"></i>'


def _named(group: Group) -> str:
    return f'<span class="named">{_dot(group)}{escape(group.name)}</span>'


def colour(group: Group) -> str:
    """The page's colour of a group, as in its charts."""
    return charts.GROUP_COLOURS[group.number % len(charts.GROUP_COLOURS)]


def _tiles(groups: Sequence[Group]) -> str:
    tiles = []
    for group in groups[:8]:
        found = success(group)
        if found:
            tiles.append(
                f'<div class="card tile"><div class="soft small">{_named(group)}</div>'
                f'<div class="number">{percent_text(round(found.value, 1))}</div>'
                f'<div class="soft small">{_interval(found)}</div></div>'
            )
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _interval(found: Estimate) -> str:
    over = f"over {found.runs} runs" if found.by != BY_EPISODES else "over the episodes of one run"
    return f"95% interval {found.low:.0f} to {found.high:.0f} % {over}"


def _success(groups: Sequence[Group]) -> str:
    """Success of each group and its difference to the first, over all tasks and in each."""
    tables = [_success_table(groups, task) for task in (None, *tasks_of(groups))]
    measured = sorted({run.measured for group in groups for run in group.runs if run.measured})
    if len(groups) > 1:
        note = f'Differences are to "{groups[0].name}", in points; one whose interval holds 0 may be chance. '
    else:
        note = ""
    if "validation seeds" in measured:
        note += (
            "Where no evaluation is given, it is what the last validation found; its seeds choose among checkpoints."
        )
    return section(f"Success on {' and '.join(measured)}", "".join(tables), note) if measured else ""


def _success_table(groups: Sequence[Group], task: str | None) -> str:
    rows = []
    for group in groups:
        found = success(group, task)
        if found is None:
            continue
        beside = difference(groups[0], group, task) if group.number else None
        each = ", ".join(f"{rate:.0f}" for rate in group.rates(task))
        pooled = group.pooled(task)
        rows.append(
            f"<tr><td>{_named(group)}</td>"
            f'<td class="right">{len(group.rates(task))}<div class="soft small">{each}</div></td>'
            f'<td class="right">{pooled.won} of {pooled.episodes}</td>'
            f'<td class="right"><strong>{percent_text(round(found.value, 1))}</strong>'
            f'<div class="soft small">{found.low:.1f} to {found.high:.1f}</div></td>'
            f'<td class="right">{_told_difference(beside)}</td>'
            f'<td class="chart">{range_bar(found.low, found.high, found.value, colour(group))}</td></tr>'
        )
    if not rows:
        return ""
    head = (
        f"<tr><th>{escape(task or 'all tasks' if task is not None or tasks_of(groups) else 'settings')}</th>"
        '<th class="right">runs, each in %</th><th class="right">episodes won</th>'
        '<th class="right">mean, 95% interval</th><th class="right">difference</th><th>0 to 100 %</th></tr>'
    )
    return f'<div class="card table"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def _told_difference(found: Estimate | None) -> str:
    if found is None:
        return '<span class="soft">&ndash;</span>'
    known = "good" if found.low > 0 else "bad" if found.high < 0 else "soft"
    by = "" if found.by != BY_EPISODES else ", of episodes"
    return (
        f'<strong class="{known}">{found.value:+.1f}</strong>'
        f'<div class="soft small">{found.low:+.1f} to {found.high:+.1f}{by}</div>'
    )


def _how_read(groups: Sequence[Group]) -> str:
    most = max(len(group.runs) for group in groups)
    if most == 1:
        return "One run each: there is no band, and no telling how another seed would do."
    few = (
        f" With {most} runs at most the bands are rough, and on average too narrow: a bootstrap sees no more than the "
        "runs that there are."
        if most < _FEW
        else ""
    )
    return (
        "The thick line is the mean over a group's runs, the band its 95% percentile bootstrap interval, and each thin "
        f"line one run.{few}"
    )


def _settings(groups: Sequence[Group]) -> str:
    keys = differences([group.settings for group in groups])
    if not keys:
        return ""
    head = "".join(f"<th>{_dot(group)}{group.number + 1}</th>" for group in groups)
    rows = "".join(
        f"<tr><td><code>{escape(key)}</code></td>"
        + "".join(f"<td>{_value(group, key)}</td>" for group in groups)
        + "</tr>"
        for key in keys
    )
    table = f"<table><thead><tr><th>key</th>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return section("Settings that differ", f'<div class="card table">{table}</div>')


def _value(group: Group, key: str) -> str:
    return escape(group.settings[key]) if key in group.settings else '<span class="soft">not there</span>'


def _films(groups: Sequence[Group], budget: Budget) -> str:
    """The same episode (task and seed) of each group's first run that filmed it, side by side."""
    filmed: dict[tuple[str, int], dict[int, Tried]] = {}
    for group in groups:
        for run in group.runs:
            for episode in run.films:
                filmed.setdefault(episode, {}).setdefault(group.number, run)
    rows, most = [], max(map(len, filmed.values()), default=0)
    together = [episode for episode in filmed if len(filmed[episode]) > 1 or most == 1]
    for episode in sorted(together, key=lambda each: (-len(filmed[each]), each))[:MOST_FILMS]:
        task, seed = episode
        figures = [_figure(groups[number], run, run.films[episode], budget) for number, run in filmed[episode].items()]
        rows.append(
            f'<article class="card film"><header><h3>{escape(task)}, episode {seed}</h3></header>'
            f'<div class="films">{"".join(figures)}</div></article>'
        )
    return section("Films side by side", "".join(rows), "The same episode, as a run of each group played it.")


def _figure(group: Group, run: Tried, film: Path, budget: Budget) -> str:
    how = "success" if film.name.startswith("success") else "failure"
    return (
        f"<figure>{player(film, budget)}<figcaption><span>{_named(group)} seed {escape(run.seed)}"
        f'</span><span class="mark {"good" if how == "success" else "bad"}">{how}</span></figcaption></figure>'
    )


def _runs(groups: Sequence[Group]) -> str:
    rows = "".join(
        f"<tr><td>{_named(group)}</td>"
        f'<td class="right">{"?" if run.seed is None else run.seed}</td><td class="right">{run.step:,}</td>'
        f'<td class="right">{percent_text(round(run.score.rate, 1)) if run.score else "not measured"}</td>'
        f"<td><code>{escape(run.folder)}</code></td></tr>"
        for group in groups
        for run in group.runs
    )
    head = (
        '<tr><th>settings</th><th class="right">seed</th><th class="right">steps</th><th class="right">success</th>'
        "<th>folder</th></tr>"
    )
    table = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
    return section("Runs", f'<div class="card table">{table}</div>')


def _footer() -> str:
    text = (
        "Runs are of one group where all settings but the seeds, the folder and the tracker are equal; a checkpoint "
        "that a run began from counts as the settings that made it, and demonstrations as how they were recorded. "
        "Intervals of groups of several runs are 95% percentile bootstrap intervals over runs (9,999 draws; for a "
        "difference both groups are drawn apart). Of a single run they are Wilson's, or for a difference Agresti and "
        "Caffo's, over episodes, and say nothing of other seeds."
    )
    return f'<footer class="soft small">{text}</footer>'
