"""Draw the pictures of docs/how_it_works.md: boxes in rows, and arrows between them, as SVG.

Usage: .venv/bin/python -m scripts.pictures
"""

from __future__ import annotations

from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 170, 62, 74, 44, 16
BLUE, GREEN, ORANGE, GREY = "#dbe9ff", "#dcf5e1", "#ffe9cf", "#eeeeee"
"""What belongs to the world, to the policy, to memory and learning, and to people and files."""

Box = tuple[str, str, str, str]
"""A name for arrows, a title, a line below it, and a colour. An empty name leaves the place free."""
Arrow = tuple[str, str, str]
"""From, to, and what is written on it."""
NONE: Box = ("", "", "", "")

PICTURES: dict[str, tuple[list[list[Box]], list[Arrow]]] = {
    "overview": (
        [
            [
                ("env", "environment", "16 at once, in workers", BLUE),
                ("policy", "policy", "backbone + token head", GREEN),
                ("replay", "replay", "each frame once, tokens", ORANGE),
            ],
            [
                ("demos", "demonstrations", "scripted expert or you", GREY),
                ("actor", "actor's update", "imitate good decisions", ORANGE),
                ("critic", "critic's update", "what was it worth?", ORANGE),
            ],
        ],
        [
            ("env", "policy", "observe"),
            ("policy", "env", "act"),
            ("policy", "replay", "remember"),
            ("replay", "critic", "batch"),
            ("critic", "actor", "Q"),
            ("actor", "policy", "new weights"),
            ("demos", "actor", "labels"),
        ],
    ),
    "observation": (
        [
            [
                ("world", "world", "MuJoCo, screen, page", BLUE),
                ("sensors", "sensors", "read(world)", BLUE),
                ("obs", "observation", "uint8, float32, text", BLUE),
                ("proc", "processor", "pixels become floats", GREEN),
            ],
            [
                NONE,
                ("head", "readout, head", "reads features", GREEN),
                ("features", "features", "places + state", GREEN),
                ("backbone", "backbone, pointers", "where is the red cube?", GREEN),
            ],
        ],
        [
            ("world", "sensors", ""),
            ("sensors", "obs", ""),
            ("obs", "proc", ""),
            ("proc", "backbone", ""),
            ("backbone", "features", ""),
            ("features", "head", ""),
        ],
    ),
    "action": (
        [
            [
                ("features", "features", "of B observations", GREEN),
                ("head", "head", "logits of each slot", GREEN),
                ("mask", "mask(prefix)", "the grammar", GREEN),
                ("tokens", "tokens", "int64 [B, K]", GREEN),
            ],
            [
                NONE,
                ("step", "env.step", "reward, ended?", BLUE),
                ("action", "action", "of the environment", BLUE),
                ("decode", "decode(tokens)", "the action space", GREEN),
            ],
        ],
        [
            ("features", "head", ""),
            ("head", "mask", ""),
            ("mask", "tokens", "sample"),
            ("tokens", "decode", ""),
            ("decode", "action", ""),
            ("action", "step", ""),
        ],
    ),
    "replay": (
        [
            [
                ("row", "row", "tokens, reward, ended?", ORANGE),
                ("frames", "frames", "each picture once", ORANGE),
                ("cache", "cached features", "of a frozen backbone", ORANGE),
            ],
            [
                ("walk", "n-step walk", "r + gamma r' + ...", ORANGE),
                ("draw", "sampler", "uniform, success, priority", ORANGE),
                ("batch", "batch", "with demonstrations", ORANGE),
            ],
        ],
        [
            ("row", "frames", "points to"),
            ("frames", "cache", "made of"),
            ("row", "walk", ""),
            ("walk", "draw", ""),
            ("draw", "batch", ""),
            ("cache", "batch", ""),
        ],
    ),
    "update": (
        [
            [
                ("batch", "batch", "256 rows on the device", ORANGE),
                ("target", "target", "return, or r + gamma V", ORANGE),
                ("critic", "critic", "51 bins of value", ORANGE),
            ],
            [
                ("actor", "actor", "imitates the weights", GREEN),
                ("weights", "weights", "softmax(Q / temperature)", ORANGE),
                ("candidates", "candidates", "16 decisions a state", GREEN),
            ],
        ],
        [
            ("batch", "target", ""),
            ("target", "critic", "cross-entropy"),
            ("critic", "candidates", "ranks"),
            ("candidates", "weights", ""),
            ("weights", "actor", "cross-entropy"),
        ],
    ),
    "processes": (
        [
            [
                ("w1", "worker", "environments 0, 2, 4 ...", BLUE),
                ("shared", "shared memory", "pictures and numbers", BLUE),
                ("trainer", "trainer", "acts and learns", GREEN),
            ],
            [
                ("w2", "worker", "environments 1, 3, 5 ...", BLUE),
                ("ckpt", "checkpoint", "policy, critic, replay", GREY),
                ("feed", "prefetcher", "the next batches", ORANGE),
            ],
        ],
        [
            ("w1", "shared", ""),
            ("w2", "shared", ""),
            ("shared", "trainer", "observations"),
            ("feed", "trainer", "batches"),
            ("trainer", "ckpt", "every save_every"),
        ],
    ),
}


def svg(rows: list[list[Box]], arrows: list[Arrow]) -> str:
    """The picture; boxes stand where their row and column say."""
    places = {box[0]: (column, row) for row, boxes in enumerate(rows) for column, box in enumerate(boxes) if box[0]}
    width = 2 * MARGIN + max(len(row) for row in rows) * (WIDTH + GAP_X) - GAP_X
    height = 2 * MARGIN + len(rows) * (HEIGHT + GAP_Y) - GAP_Y
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12" text-anchor="middle">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#445"/></marker></defs>',
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
    ]
    both = {(start, end) for start, end, _ in arrows}
    for start, end, text in arrows:
        parts += _arrow(places[start], places[end], text, aside=(end, start) in both)
    for row, boxes in enumerate(rows):
        for column, (name, title, below, colour) in enumerate(boxes):
            parts += _box(column, row, title, below, colour) if name else []
    return "\n".join([*parts, "</svg>", ""])


def _corner(column: int, row: int) -> tuple[int, int]:
    return MARGIN + column * (WIDTH + GAP_X), MARGIN + row * (HEIGHT + GAP_Y)


def _box(column: int, row: int, title: str, below: str, colour: str) -> list[str]:
    x, y = _corner(column, row)
    middle = x + WIDTH // 2
    return [
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="8" fill="{colour}" stroke="#889"/>',
        f'<text x="{middle}" y="{y + 27}" font-weight="bold" font-size="14" fill="#112">{escape(title)}</text>',
        f'<text x="{middle}" y="{y + 46}" fill="#334">{escape(below)}</text>',
    ]


def _arrow(start: tuple[int, int], end: tuple[int, int], text: str, aside: bool) -> list[str]:
    """From the edge of one box to that of another; `aside` where another arrow goes the other way."""
    (x0, y0), (x1, y1) = _corner(*start), _corner(*end)
    x0, y0, x1, y1 = x0 + WIDTH // 2, y0 + HEIGHT // 2, x1 + WIDTH // 2, y1 + HEIGHT // 2
    right, down = (end[0] > start[0]) - (end[0] < start[0]), (end[1] > start[1]) - (end[1] < start[1])
    if down:
        y0, y1 = y0 + down * HEIGHT // 2, y1 - down * HEIGHT // 2
        shift = right * WIDTH // 3
        x0, x1 = x0 + shift, x1 - shift
    else:
        x0, x1 = x0 + right * WIDTH // 2, x1 - right * WIDTH // 2
        shift = (-14 if right > 0 else 14) if aside else 0
        y0, y1 = y0 + shift, y1 + shift
    middle_x, middle_y = (x0 + x1) // 2, (y0 + y1) // 2
    line = f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="#445" stroke-width="1.5" marker-end="url(#tip)"/>'
    if not text:
        return [line]
    dx, dy = (0, -5) if not down else (4, 4)
    anchor = ' text-anchor="start"' if down else ""
    return [
        line,
        f'<text x="{middle_x + dx}" y="{middle_y + dy}" font-size="10" fill="#334"{anchor}>{escape(text)}</text>',
    ]


def main() -> None:
    """Write every picture."""
    FOLDER.mkdir(exist_ok=True)
    for name, (rows, arrows) in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(svg(rows, arrows), "utf-8")


if __name__ == "__main__":
    main()
