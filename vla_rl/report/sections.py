"""The parts of an evaluation's page that say where it succeeds and where it fails."""

from __future__ import annotations

from collections.abc import Sequence

from vla_rl.evaluation.outcome import EvalResult, Outcome, wilson
from vla_rl.report import breakdown, charts
from vla_rl.report.document import chart_cards, escape, percent_text, range_bar, section

MOST_ROWS = 12
"""Of a table of instructions, or of words."""


def breakdowns(results: Sequence[EvalResult], gamma: float | None) -> list[str]:
    """By instruction, by word, over time, and the critic's; sections as HTML. gamma: of one decision, for returns."""
    valid = [outcome for result in results for outcome in result.valid]
    if not valid:
        return []
    return [_instructions(valid), _words(valid), _over_time(valid), _critic(valid, gamma)]


def _instructions(outcomes: Sequence[Outcome]) -> str:
    found = breakdown.by_instruction(outcomes)
    if len(found) < 2:
        return ""
    rows = []
    for text, each in found[:MOST_ROWS]:
        low, high = wilson(each.won, each.episodes)
        rows.append(
            f'<tr><td>“{escape(text)}”</td><td class="right">{each.won} of {each.episodes}</td>'
            f'<td class="right"><strong>{percent_text(each.rate)}</strong></td>'
            f'<td class="right">{low:.0f} to {high:.0f}</td>'
            f'<td class="chart">{range_bar(low, high, each.rate)}</td></tr>'
        )
    head = (
        '<tr><th>instruction</th><th class="right">episodes won</th><th class="right">success</th>'
        '<th class="right">95% interval</th><th>0 to 100 %</th></tr>'
    )
    left = len(found) - MOST_ROWS
    note = "The least successful first." + (f" {left} more are not shown." if left > 0 else "")
    return section("Success by instruction", _table(head, rows), note)


def _words(outcomes: Sequence[Outcome]) -> str:
    found = breakdown.by_word(outcomes)
    if not found:
        return ""
    half = MOST_ROWS // 2
    shown = found if len(found) <= MOST_ROWS else [*found[:half], *found[-half:]]
    rows = []
    for word in shown:
        known = "good" if word.low > 0 else "bad" if word.high < 0 else "soft"
        rows.append(
            f"<tr><td>{escape(word.text)}</td>"
            f'<td class="right">{word.having[0]} of {word.having[1]}</td>'
            f'<td class="right">{word.lacking[0]} of {word.lacking[1]}</td>'
            f'<td class="right"><strong class="{known}">{word.difference:+.0f}</strong></td>'
            f'<td class="right">{word.low:+.0f} to {word.high:+.0f}</td></tr>'
        )
    head = (
        '<tr><th>word</th><th class="right">won with it</th><th class="right">won without</th>'
        '<th class="right">difference, points</th><th class="right">95% interval</th></tr>'
    )
    note = (
        f"Success where the instruction has the word less success where it lacks it. Of {len(found)} words one in "
        "twenty would stand out by chance, in colour."
    )
    return section("Success by word", _table(head, rows), note)


def _over_time(outcomes: Sequence[Outcome]) -> str:
    won = [outcome.length for outcome in outcomes if outcome.success]
    lost = [outcome.length for outcome in outcomes if not outcome.success]
    drawn = [charts.ends_chart(won, lost)] if max([*won, *lost]) > 1 else []
    kinds = [
        (kind, *breakdown.q_over_time([outcome for outcome in outcomes if outcome.success == success]))
        for kind, success in (("success", True), ("failure", False))
    ]
    if any(len(shares) for _, shares, _ in kinds):
        drawn.append(charts.expectation_chart(kinds))
    return section("Where in time episodes fail", chart_cards(drawn))


def _critic(outcomes: Sequence[Outcome], gamma: float | None) -> str:
    bins = [] if gamma is None else breakdown.calibration(outcomes, gamma)
    if len(bins) < 2:
        return ""
    columns = zip(*((each.expected, each.came, each.low, each.high) for each in bins), strict=True)
    chart = charts.calibration_chart(*columns)
    off = sum(abs(each.expected - each.came) * each.decisions for each in bins) / sum(b.decisions for b in bins)
    note = (
        f"{sum(each.decisions for each in bins)} decisions in {len(bins)} bins by their Q; on average Q is off by "
        f"{off:.2f}. Bars are 95% intervals over episodes. After an episode that was cut short nothing is counted "
        "any more, and Q is of the policy as it explored in training, which may act otherwise than here."
    )
    return section("What the critic expects, and what comes", chart_cards([chart]), note)


def _table(head: str, rows: Sequence[str]) -> str:
    return f'<div class="card table"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
