"""What every page has: its head, its style, and texts that cannot become markup.

Pictures, films and charts lie in the page itself; it asks for nothing from elsewhere, and says so to the browser.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape as _escape
from pathlib import Path

from vla_rl.report.charts import Chart
from vla_rl.specs import readable

_STYLE = Path(__file__).with_name("html.css")
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def document(title: str, parts: Sequence[str]) -> str:
    """A whole page; empty parts are left out."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>\n{_STYLE.read_text('utf-8')}</style></head>\n"
        "<body><main>\n" + "\n".join(part for part in parts if part) + "\n</main></body></html>\n"
    )


def heading(title: str, subtitle: str = "") -> str:
    """The page's first lines."""
    below = f'<p class="soft">{escape(subtitle)}</p>' if subtitle else ""
    return f"<header><h1>{escape(title)}</h1>{below}</header>"


def section(title: str, body: str, note: str = "") -> str:
    """A part of the page under a title, with a sentence on how to read it; "" without a body, which is HTML."""
    if not body:
        return ""
    told = f'<p class="soft small">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{told}{body}</section>"


def chart_cards(charts: Sequence[Chart]) -> str:
    """Charts beside one another, each with its legend."""
    cards = []
    for chart in charts:
        legend = "".join(
            f'<span><i style="background:var({colour})"></i>{escape(label)}</span>' for label, colour in chart.legend
        )
        note = f'<p class="soft small">{escape(chart.note)}</p>' if chart.note else ""
        title = f'<h3>{escape(chart.title)}</h3>{note}<div class="legend small">{legend}</div>'
        cards.append(f'<div class="card">{title}{chart.svg}</div>')
    return f'<div class="charts">{"".join(cards)}</div>' if cards else ""


def range_bar(low: float, high: float, middle: float, colour: str = "--blue") -> str:
    """An interval and its middle on a rail from 0 to 100; no dot where the middle is NaN."""
    dot = "" if math.isnan(middle) else f'<i class="dot" style="left:{middle:.2f}%;background:var({colour})"></i>'
    return (
        f'<div class="range" aria-hidden="true"><i class="rail"></i>'
        f'<i class="span" style="left:{low:.2f}%;width:{high - low:.2f}%;background:var({colour})"></i>{dot}</div>'
    )


def escape(text: object) -> str:
    """A text of a run, or of somebody's page, as the page may hold it."""
    return _escape(readable(str(text)))


def percent_text(rate: float) -> str:
    """A share in percent for people; "none" for NaN."""
    return "none" if math.isnan(rate) else f"{rate:.0f} %" if rate == round(rate) else f"{rate:.1f} %"
