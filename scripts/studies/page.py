"""Write what the studies found into their pages, most into docs/questions.md: of each, one table and one picture.

`python scripts/studies/page.py` reads docs/studies/<study>.json, writes between the markers of its page, and draws
docs/studies/<study>.svg. Of a study that has no parts, the page says that it was not run.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parts import ROOT, STUDIES, write_whole

DOCS, QUESTIONS = ROOT / "docs", "questions.md"
LEAST_SEEDS = 3
"""Of fewer seeds, the page says that an interval tells nothing."""


@dataclass(frozen=True)
class Told:
    """What the page shows of a study. headline: each key of its JSON, and in words what it is. columns: the numbers of
    a row that the table shows, by their title; the first one is drawn. unit: of that. page: on which page of docs/."""

    headline: Mapping[str, str]
    columns: Mapping[str, str]
    unit: str
    page: str = QUESTIONS


PERCENT = "success in percent"
SHOWN = {
    "chains": Told(
        {
            "success_at_8": "success at eight steps of the best setting, in percent",
            "one_step_at_8": "of one-step TD",
            "credit_correlation": "correlation of counterfactual resets with the truth",
            "critic_correlation": "of the trained critic of the best setting",
        },
        {"success": "success", "credit correlation": "credit", "critic correlation": "critic"},
        PERCENT,
    ),
    "tools": Told(
        {"worst_regret": "regret of the policy that learns what calls are worth, where it is worst"},
        {"regret": "regret", "success": "success", "calls": "calls"},
        "regret",
    ),
    "gaming": Told(
        {
            "auc": "how surely the gap tells gaming from honest work (AUC)",
            "false_alarms": "share of honest runs with an alarm",
            "verified_share": "verified success with quarantine, as a share of that of training on the verifier",
        },
        {"success": "success", "paid": "paid", "alarm": "alarm"},
        PERCENT,
    ),
    "cost": Told(
        {
            "budget_error": "distance of the cost from its budget, as a share of it, in the worst world",
            "kl_error": "divergence beyond its budget, as a share of it",
            "forgetting": "points that the held task lost, with a budget",
        },
        {"success": "success", "cost": "cost", "points forgotten": "forgetting"},
        PERCENT,
    ),
    "turns": Told(
        {"flow": "success of the best policy in the flow, in percent", "calculator": "in the calculator"},
        {"success": "success", "cloned": "cloned"},
        PERCENT,
    ),
    "adaptation": Told(
        {"steps_share": "steps to recover, as a share of those of training anew"},
        {"steps to recover": "steps", "share that recovered": "back", "lowest success": "lowest"},
        "steps",
    ),
    "many": Told(
        {"worst_gap": "points by which a single run is better, at the task where it is worst"},
        {"success": "success", "cloned": "cloned"},
        PERCENT,
    ),
    "recipes": Told(
        {"reached": "tasks that reach their goals", "measured": "of so many that were measured"},
        {"success": "success", "best of 16": "best_of_16", "cloned": "cloned", "minutes of training": "minutes"},
        PERCENT,
        "results_short.md",
    ),
}


def section(name: str, found: Mapping[str, Any] | None) -> str:
    """What the page says of a study, by its summary; None where there is none."""
    command, shown = f"`python scripts/studies/{name}.py`", SHOWN[name]
    if not found or not found["parts"]:
        there = "#studies" if shown.page == QUESTIONS else f"{QUESTIONS}#studies"
        return f"**Not yet run.** {command} measures it, in parts; see [Studies]({there})."
    lines = [f"{command}, {_made(found['parts'])}."]
    lines += [f"- `{key}`, {words}: **{_number(found[key])}**" for key, words in shown.headline.items()]
    if found.get("best"):
        lines.append(f"- The best: {_said(found['best'])}.")
    lines.append(f"- Missing: {'; '.join(found['missing'])}." if found["missing"] else "- Nothing is missing.")
    if found["other_settings"]:
        lines.append(f"- Left out, since made with other settings: {'; '.join(found['other_settings'])}.")
    seeds = max(len([part for part in found["parts"] if part["world"] == world]) for world in found["tables"])
    if seeds < LEAST_SEEDS:
        lines.append(f"- **Of {seeds} seed{'s' * (seeds > 1)} only**: an interval of so few says nothing.")
    head = ["world", "setting", *shown.columns, "seeds"]
    table = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows(found["tables"]):
        cells = [row.cell(key) for key in shown.columns.values()]
        if any(cells):
            table.append(f"| {row.world} | {row.name} | {' | '.join(cells)} | {row.seeds} |")
    picture = f"![{name}: {shown.unit} of each setting](studies/{name}.svg)"
    return "\n".join([*lines, "", *table, "", picture])


@dataclass(frozen=True)
class Row:
    """A setting in a world, or in a condition of one. numbers: intervals, or more mappings of such."""

    world: str
    name: str
    numbers: Mapping[str, Any]

    def cell(self, key: str) -> str:
        """A mean and its interval; "" where it is not known."""
        told = self.numbers.get(key)
        if not told or told.get("mean") is None:
            return ""
        low, high = (_number(end) for end in told["ci95"])
        return _number(told["mean"]) + (f" ({low} to {high})" if len(told["values"]) > 1 else "")

    @property
    def seeds(self) -> int:
        return max((len(told.get("values", ())) for told in self.numbers.values()), default=0)


def rows(tables: Mapping[str, Any]) -> list[Row]:
    """All rows of a summary's tables. Of a row that has conditions, such as prices or tasks, each is a row."""
    found = []
    for world, table in tables.items():
        for name, numbers in table.items():
            if all("mean" in told for told in numbers.values()):
                found.append(Row(world, name, numbers))
            elif all("mean" in told for each in numbers.values() for told in each.values()):
                found += _of_conditions(world, name, numbers)
    return found


def _of_conditions(world: str, name: str, numbers: Mapping[str, Any]) -> list[Row]:
    """Rows of {condition: {number: interval}}, or of {number: {task: interval}}."""
    if {"success", "cloned"} & numbers.keys():
        tasks = dict.fromkeys(task for each in numbers.values() for task in each)
        return [Row(world, f"{name}: {t}", {key: each[t] for key, each in numbers.items() if t in each}) for t in tasks]
    return [Row(world, f"{name}: {where}", told) for where, told in numbers.items()]


def picture(name: str, found: Mapping[str, Any]) -> str:
    """An SVG: of each row the mean of the first column, its interval, and the seeds."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    key = next(iter(SHOWN[name].columns.values()))
    shown = [row for row in rows(found["tables"]) if row.cell(key)]
    with pyplot.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(7, 0.8 + 0.22 * len(shown)), layout="constrained")
        for place, row in enumerate(shown):
            told = row.numbers[key]
            axes.plot(told["ci95"], [place, place], color="#4477aa", linewidth=2)
            axes.plot(told["values"], [place] * len(told["values"]), "|", color="#888888", markersize=6)
            axes.plot(told["mean"], place, "o", color="#4477aa", markersize=4)
        axes.set_yticks(range(len(shown)), [f"{row.world}, {row.name}" for row in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlabel(f"{SHOWN[name].unit}: mean, 95% interval, seeds")
        axes.grid(axis="x", alpha=0.3)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Description": drawn(name, found)})
        pyplot.close(figure)
    return re.sub(r"[ \t]+$", "", text.getvalue(), flags=re.M)


def drawn(name: str, found: Mapping[str, Any]) -> str:
    """What a picture shows, in words that its file holds: by them one knows whether it is up to date."""
    key = next(iter(SHOWN[name].columns.values()))
    cells = [(row.world, row.name, row.cell(key)) for row in rows(found["tables"])]
    return "; ".join(f"{world}, {row}: {cell}" for world, row, cell in cells if cell)


def written(text: str, found: Mapping[str, Mapping[str, Any] | None]) -> str:
    """The page's text with what was found between the markers of each study.

    Raises:
        ValueError: a study has no markers on the page.
    """
    for name, each in found.items():
        begin, end = f"<!-- study {name} -->\n", f"\n<!-- end of study {name} -->"
        head, begun, rest = text.partition(begin)
        _, ended, tail = rest.partition(end)
        if not (begun and ended):
            lines = f"{begin.strip()} and {end.strip()}"
            raise ValueError(f"docs/{SHOWN[name].page}: {lines} must stand on it, each on a line of its own")
        text = head + begin + section(name, each) + end + tail
    return text


def pages(found: Mapping[str, Mapping[str, Any] | None]) -> dict[Path, str]:
    """The text of each page with what was found on it. Raises as `written`."""
    texts = {}
    for page in dict.fromkeys(told.page for told in SHOWN.values()):
        own = {name: found[name] for name, told in SHOWN.items() if told.page == page}
        texts[DOCS / page] = written((DOCS / page).read_text("utf-8"), own)
    return texts


def summaries(folder: Path = STUDIES) -> dict[str, dict[str, Any] | None]:
    """The summary of each study, None where there is none."""
    files = {name: folder / f"{name}.json" for name in SHOWN}
    return {name: json.loads(file.read_text("utf-8")) if file.exists() else None for name, file in files.items()}


def _said(best: str | Mapping[str, str | None]) -> str:
    """A setting, or one of each world."""
    if isinstance(best, str):
        return f"`{best}`"
    return ", ".join(f"`{setting}` ({world})" for world, setting in best.items() if setting)


def _made(parts: Sequence[Mapping[str, Any]]) -> str:
    """Of which parts, when and where."""

    def all_of(key: str) -> str:
        return ", ".join(sorted({each for part in parts for each in part[key]}))

    seeds = sorted({part["seed"] for part in parts})
    hours = sum(part["cpu_seconds"] for part in parts) / 3600
    which = f"{len(parts)} part{'s' * (len(parts) > 1)}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    return f"{which}, {hours:.2g} core hours; commit {all_of('commit')}; {all_of('date')}; {all_of('machine')}"


def _number(value: float | None) -> str:
    """Three significant digits; "not known" of None."""
    if value is None:
        return "not known"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main() -> None:
    found = summaries()
    for name, each in found.items():
        if each and each["parts"]:
            write_whole(STUDIES / f"{name}.svg", picture(name, each))
    for file, text in pages(found).items():
        write_whole(file, text)
        print(file)


if __name__ == "__main__":
    main()
