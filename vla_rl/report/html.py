"""The page that a person looks at, as HTML: success with intervals, learning curves, film strips.

Pictures are data URIs and charts inline SVG; the page asks for nothing from elsewhere, and says so to the browser.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla_rl.evaluation.outcome import EvalResult, percent, wilson
from vla_rl.media.images import data_uri
from vla_rl.report.charts import learning_charts
from vla_rl.report.document import chart_cards, document, escape, heading, percent_text, range_bar, section
from vla_rl.report.player import Budget, player
from vla_rl.report.sections import breakdowns

FRAMES = 8
"""At most this many frames a film strip."""
_WIDE = 96
"""Frames of more pixels a side have fewer beside one another, so that what is drawn on them can be seen."""


@dataclass(frozen=True)
class Score:
    """One line of the success table: a policy, how it acts, `successes` of `episodes`, and what one of them cost."""

    policy: str
    env: str
    successes: int
    episodes: int
    note: str = ""
    invalid: int = 0
    cost: float = 0.0

    @classmethod
    def of(cls, result: EvalResult, policy: str, note: str = "") -> Score:
        """The score of an evaluation."""
        return cls(policy, result.env, result.successes, len(result.valid), note, result.n_invalid, result.mean_cost)


@dataclass(frozen=True)
class Film:
    """An episode as pictures: uint8 frames [H, W, 3], and Q before each but the last (or no Q at all).

    told: what was decided at each frame but the last, in words. video: an mp4 of it.
    """

    task: str
    success: bool
    frames: Sequence[np.ndarray]
    q: Sequence[float] = ()
    note: str = ""
    told: Sequence[str] = ()
    video: Path | None = None


@dataclass(frozen=True)
class Report:
    """What the page shows.

    `summary`: settings by name. `scores`: one a policy, the one that matters last. `films`: in the order
    in which they are shown, successes and failures apart. `metrics`: the lines of `metrics.jsonl`. `results`: the
    episodes, which are broken down by instruction, word and time. `gamma`: of one decision, None where it is unknown.
    `more`: further sections as HTML, made by `document.section`. `config`: the whole, as YAML. `made`: with which
    version and commit. `folder`: where the page will lie.
    """

    title: str
    scores: Sequence[Score]
    subtitle: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)
    films: Sequence[Film] = ()
    metrics: Sequence[Mapping[str, Any]] = ()
    results: Sequence[EvalResult] = ()
    gamma: float | None = None
    more: Sequence[str] = ()
    config: str = ""
    made: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


def page(report: Report) -> str:
    """The whole page as HTML."""
    budget = Budget(page=report.folder)
    parts = [
        heading(report.title, report.subtitle),
        _tiles(report.scores),
        _table(report.scores),
        _learning(report),
        *breakdowns(report.results, report.gamma),
        *report.more,
        _strips("Failures", [film for film in report.films if not film.success], budget),
        _strips("Successes", [film for film in report.films if film.success], budget),
        _settings(report),
        _footer(report),
    ]
    return document(report.title, parts)


def _tiles(scores: Sequence[Score]) -> str:
    """Each policy's success, large; the last is the one that matters. Those of one name say how they act, too."""
    tiles, names = [], Counter(score.policy for score in scores)
    for number, score in enumerate(scores, 1):
        low, high = wilson(score.successes, score.episodes)
        main = " main" if number == len(scores) else ""
        name = f"{score.policy}, {score.note}" if names[score.policy] > 1 and score.note else score.policy
        tiles.append(
            f'<div class="card tile{main}"><div class="soft small">{escape(name)}</div>'
            f'<div class="number">{percent_text(percent(score.successes, score.episodes))}</div>'
            f'<div class="soft small">95% interval {low:.0f} to {high:.0f} %</div></div>'
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _table(scores: Sequence[Score]) -> str:
    rows = []
    for score in scores:
        rate, (low, high) = percent(score.successes, score.episodes), wilson(score.successes, score.episodes)
        note = f'<div class="soft small">{escape(score.note)}</div>' if score.note else ""
        invalid = f'<div class="soft small">{score.invalid} invalid, not counted</div>' if score.invalid else ""
        cost = f'<div class="soft small">at a cost of {score.cost:.2f} each</div>' if score.cost else ""
        rows.append(
            f'<tr><td>{escape(score.policy)}{note}</td><td class="env">{escape(score.env)}</td>'
            f'<td class="right">{score.successes} of {score.episodes}{invalid}{cost}</td>'
            f'<td class="right"><strong>{percent_text(rate)}</strong></td>'
            f'<td class="right">{low:.1f} to {high:.1f}</td><td class="chart">{range_bar(low, high, rate)}</td></tr>'
        )
    head = (
        '<tr><th>policy</th><th>task</th><th class="right">episodes won</th><th class="right">success</th>'
        '<th class="right">95% interval</th><th>0 to 100 %</th></tr>'
    )
    return (
        "<section><h2>Success on held-out seeds</h2>"
        f'<div class="card table"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div></section>'
    )


def _learning(report: Report) -> str:
    start = report.scores[0] if len(report.scores) > 1 else None
    line = (start.policy, percent(start.successes, start.episodes)) if start else None
    return section("Learning", chart_cards(learning_charts(report.metrics, line)))


def _strips(title: str, films: Sequence[Film], budget: Budget) -> str:
    films = [film for film in films if len(film.frames)]
    return section(title, "".join(_strip(film, budget) for film in films))


def _strip(film: Film, budget: Budget) -> str:
    mark = ("good", "✓ success") if film.success else ("bad", "✗ failure")
    figures = "".join(_figure(film, int(step)) for step in _picked(len(film.frames)))
    video = f'<div class="video">{player(film.video, budget)}</div>' if film.video else ""
    wide = " wide" if max(film.frames[0].shape[:2]) > _WIDE else ""
    return (
        f'<article class="card film"><header><h3>“{escape(film.task)}”</h3>'
        f'<span class="mark {mark[0]}">{mark[1]}</span>'
        f'<span class="soft small">{escape(film.note)}</span></header><div class="strip{wide}">{figures}</div>'
        f"{video}</article>"
    )


def _figure(film: Film, step: int) -> str:
    frame = film.frames[step]
    pixels = ' class="pixels"' if max(frame.shape[:2]) <= 96 else ""
    caption, bar = f'<span class="soft">{step}</span>', ""
    if step < len(film.q) and math.isfinite(film.q[step]):
        value = film.q[step]
        caption += f"<span>Q {value:.2f}</span>"
        bar = f'<div class="q"><i style="width:{100 * min(max(value, 0.0), 1.0):.0f}%"></i></div>'
    elif step == len(film.frames) - 1:
        caption += '<span class="soft">end</span>'
    told = f'<div class="soft told">{escape(film.told[step])}</div>' if step < len(film.told) else ""
    image = f'<img{pixels} alt="{escape(film.task)}, decision {step}" src="{data_uri(frame)}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption>{bar}{told}</figure>"


def _picked(frames: int) -> np.ndarray:
    """At most `FRAMES` frame numbers, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, frames - 1, min(frames, FRAMES)).round().astype(int))


def _settings(report: Report) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in report.summary.items())
    config = "\n".join(map(escape, report.config.splitlines()))
    whole = f"<details><summary>The whole config</summary><pre>{config}</pre></details>"
    body = f"<dl>{rows}</dl>" * bool(rows) + whole * bool(report.config)
    return section("Settings", f'<div class="card">{body}</div>' if body else "")


def _footer(report: Report) -> str:
    text = (
        "Each policy ran one episode a seed, on seeds that nothing trained on. Intervals are 95% Wilson score "
        "intervals. The number at the left under a frame counts decisions"
    )
    q = ", and Q is the critic's estimate of the discounted return from there" if any(f.q for f in report.films) else ""
    marks = (
        " An orange cross is a click, an orange arrow a drag or the way that the hand then went, a blue ring what a "
        "pointer points at: the first, second, ... thing that the instruction mentions, or the hand."
        if report.films
        else ""
    )
    made = " Made with " + ", ".join(f"{name} {value}" for name, value in report.made.items()) if report.made else ""
    return f'<footer class="soft small">{text}{q}.{marks}{escape(made)}{"." * bool(made)}</footer>'
