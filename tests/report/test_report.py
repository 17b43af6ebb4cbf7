"""The report: every picture inside, nothing from elsewhere, no text that becomes markup."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vla_rl import config
from vla_rl.evaluation import eval_info
from vla_rl.evaluation.outcome import EvalResult, Outcome
from vla_rl.report import report
from vla_rl.report.charts import noticed
from vla_rl.report.html import FRAMES, Film, Report, Score, page
from vla_rl.runtime import checkpoint
from vla_rl.specs import HELD_OUT_SEEDS

TASK = "push <script>alert('&')</script> to the \"mark\""
METRICS = [
    {
        "step": 100 * i,
        "time": 0.0,
        "train/success_rate": i / 10,
        "eval/pc_success": 10.0 * i,
        "q/mean": 0.1,
        "q/return": 0.2,
    }
    for i in range(1, 9)
]


def film(frames: int, size: int = 64, success: bool = True) -> Film:
    pictures = [np.full((size, size, 3), 5 * step, np.uint8) for step in range(frames)]
    return Film(TASK, success, pictures, tuple(0.1 * step for step in range(frames - 1)), "seed 1000003")


def a_report(**changes) -> Report:
    scores = [
        Score("Start & before", "vla_rl/Reach-v0", 38, 100),
        Score("After", "vla_rl/Reach-v0", 97, 99),
    ]
    parts = {"title": "Reach <1>", "scores": scores, "films": [film(5), film(30, 300, False)], "metrics": METRICS}
    return Report(**(parts | changes))


class Seen(HTMLParser):
    """Tags, what they refer to, and the text between them; fails on tags that do not match."""

    VOID = frozenset({"meta", "img", "path", "use", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "poster")
        ]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_refers_to_nothing_outside_itself() -> None:
    html = page(a_report())
    assert not re.search(r"https?:|//[a-z]|@import", html)
    seen = Seen(html)
    assert seen.references
    assert all(reference.startswith(("data:image/", "#")) for reference in seen.references)
    assert "script" not in seen.tags
    assert "default-src 'none'" in html


def test_every_picture_is_inside_and_opens() -> None:
    html = page(a_report())
    pictures = [r for r in Seen(html).references if r.startswith("data:")]
    assert len(pictures) == 5 + FRAMES
    sizes = {Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size for uri in pictures}
    assert sizes == {(64, 64), (300, 300)}


def test_first_and_last_frame_and_values_are_shown() -> None:
    text = Seen(page(a_report(films=[film(30)]))).text
    assert "Q 0.00" in text
    assert "29end" in text
    assert "Q 0.10" not in text


def test_text_is_escaped() -> None:
    html = page(a_report(summary={"a<b": "<img src=x>"}, subtitle="<i>"))
    seen = Seen(html)
    assert "<script>" not in html
    assert TASK in seen.text
    assert "<img src=x>" in seen.text
    assert "Start & before" in seen.text


def test_table_holds_success_and_interval() -> None:
    text = Seen(page(a_report())).text
    for part in ("38 of 100", "38 %", "29.1 to 47.8", "97 of 99", "98.0 %", "92.9 to 99.4"):
        assert part in text


def test_learning_curves_appear_where_there_are_metrics() -> None:
    assert "svg" not in Seen(page(a_report(metrics=()))).tags
    html = page(a_report())
    assert Seen(html).tags.count("svg") == 2
    assert page(a_report()) == html
    assert Seen(page(a_report(metrics=[{"step": 1, "q/mean": float("nan")}]))).tags.count("svg") == 0


def test_shifts_that_were_noticed_are_marked_in_the_curve() -> None:
    metrics = [row | {"shift/alarms": alarms} for row, alarms in zip(METRICS, [0.0, 0.0, 1.0, 1.0, 3.0], strict=False)]
    assert noticed(metrics) == [300, 500]
    assert noticed(METRICS) == []
    assert page(a_report(metrics=metrics)).count("a shift was noticed") == 1
    assert "a shift was noticed" not in page(a_report())


def test_a_line_cut_short_is_left_out_of_the_metrics(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert report.read_metrics(path) == []
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    with pytest.warns(UserWarning, match="line 3: no JSON object, left out: '{\"ste'"):
        assert [row["step"] for row in report.read_metrics(path)] == [1, 2]
    path.write_bytes(b'{"step": 1}\n{"step": 2, "q/m{"step": 4}\n\xff\n7\n{"step": 3}\n')
    with pytest.warns(UserWarning, match="line 2") as told:
        assert [row["step"] for row in report.read_metrics(path)] == [1, 3]
    assert len(told) == 3


def result(wins: int) -> EvalResult:
    outcomes = tuple(
        Outcome(
            HELD_OUT_SEEDS[i], TASK, i < wins, float(i < wins), float(i < wins), 3, False, np.zeros((3, 1), np.int64),
            (0.25, 0.5, 0.75), tuple(np.full((16, 16, 3), 60 * t, np.uint8) for t in range(4)) if i in (0, 9) else None,
        )
        for i in range(10)
    )  # fmt: skip
    return EvalResult("vla_rl/Reach-v0", outcomes, 1.0)


def evaluation(folder: Path, wins: int) -> Path:
    eval_info.write(result(wins), folder, {"acting": "greedy"})
    return folder


def test_the_score_of_an_earlier_evaluation_is_read(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "sft", 4)
    assert report.read_score(folder, "Start") == Score("Start", "vla_rl/Reach-v0", 4, 10, "greedy")
    assert report.read_score(folder, "Start", "8 demonstrations").note == "8 demonstrations"


def test_a_missing_or_damaged_evaluation_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"eval_info\.json: no such file"):
        report.read_score(tmp_path, "a")
    for wrong in ("{", "[]", json.dumps({"overall": {}})):
        (tmp_path / "eval_info.json").write_text(wrong)
        with pytest.raises(ValueError, match=r"eval_info\.json: damaged"):
            report.read_score(tmp_path, "a")


def test_films_and_the_learning_curve_of_a_checkpoints_run_are_shown(tmp_path: Path) -> None:
    run = config.load([f"run_dir={tmp_path / 'eval'}"], command="eval")
    checkpoint.save(tmp_path / "rl", 800, {"pretrained_model": lambda folder: None})
    (tmp_path / "rl" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in METRICS))
    place = checkpoint.locate(tmp_path / "rl")
    path = report.write_evaluation(run, [result(9)], place, "greedy", before=[Score("Start", "x", 3, 10)])
    seen = Seen(path.read_text("utf-8"))
    for part in ("3 of 10", "9 of 10", "step 800", "Q 0.25", "Successes", "Failures", TASK, run.env.id):
        assert part in seen.text
    # Two learning curves; when episodes end, and what the critic expected as they went on.
    assert seen.tags.count("svg") == 4
    assert sum(reference.startswith("data:") for reference in seen.references) == 8


def test_tiles_of_one_name_say_how_the_policies_act() -> None:
    scores = [Score("After", "x", 9, 10, "greedy"), Score("After", "x", 8, 10, "best of 16 by Q")]
    tiles = page(a_report(scores=scores)).partition('<div class="tiles">')[2].partition("<section>")[0]
    assert re.findall(r'"soft small">(After[^<]*)<', tiles) == ["After, greedy", "After, best of 16 by Q"]
    assert "After, " not in page(a_report(scores=scores[:1]))


@pytest.mark.parametrize(
    ("words", "name", "title"),
    [
        (["env=metaworld", "env.kwargs.env_name=drawer-open-v3"], "metaworld_drawer-open", "Metaworld drawer-open"),
        (["env=metaworld_reach"], "metaworld_reach", "Metaworld reach"),
        (["env=miniwob", "env.kwargs.name=click-color"], "miniwob_click-color", "Miniwob click-color"),
        (["env=click_test_2"], "miniwob-click-test-2", "Miniwob-click-test-2"),
        (["env=push"], "push", "Push"),
    ],
)
def test_tasks_that_share_an_id_have_titles_and_folders_of_their_own(
    words: list[str], name: str, title: str, tmp_path: Path
) -> None:
    run = config.load([*words, f"run_dir={tmp_path / 'eval'}"], command="eval")
    checkpoint.save(tmp_path / "rl", 800, {"pretrained_model": lambda folder: None})
    path = report.write_evaluation(run, [result(9)], checkpoint.locate(tmp_path / "rl"), "greedy")
    assert f"<h1>{title}: " in path.read_text("utf-8")
    assert run.demos.path is not None
    assert run.demos.path.name == name


@pytest.mark.parametrize("name", ["", "checkpoints", "checkpoints/last", "checkpoints/000800"])
def test_a_runs_learning_curve_is_shown_by_whichever_name_its_checkpoint_is_given(name: str, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "rl", 800, {"pretrained_model": lambda folder: None})
    (tmp_path / "rl" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in METRICS))
    run = config.load([f"run_dir={tmp_path / 'eval'}"], command="eval")
    html = report.write_evaluation(run, [result(9)], checkpoint.locate(tmp_path / "rl" / name), "greedy").read_text()
    assert "Success while learning" in html
    assert "step 800" in html
