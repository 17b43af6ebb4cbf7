"""What somebody wrote, on a page or in a config, as a person is shown it."""

from __future__ import annotations

import pytest

from vla_rl import cli
from vla_rl.report.html import Film, Report, page
from vla_rl.specs import MOST_LETTERS, kept_text, readable


def test_what_steers_a_terminal_or_turns_letters_round_is_written_out() -> None:
    assert readable("a\x1b[2J\x00\u202eb\r\n\tc") == "a\\x1b[2J\\x00\\u202eb\\x0d\n\tc"
    assert readable("tür 按钮 عربي 🙂") == "tür 按钮 عربي 🙂"


def test_of_a_long_text_the_middle_is_gone() -> None:
    shown = readable("begin" + "x" * 1_000_000 + "end")
    assert len(shown) < 2_100
    assert shown.startswith("begin")
    assert shown.endswith("end")


def test_the_report_holds_no_such_sign() -> None:
    film = Film("press \u202egnp\x1b[31m", True, (), ())
    html = page(
        Report(title="a\x00", subtitle="\u2066", scores=[], films=[film], summary={"k\x07": "v\x9b"}, metrics=())
    )
    assert not set(html) & set("\x00\x07\x1b\x9b\u202e\u2066")


def test_an_error_is_a_screen_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", f"env.id={'x' * 19_000}\x1b", "--print"]) == cli.USER_ERROR
    said = capsys.readouterr().err
    assert len(said) < 2_200
    assert "\x1b" not in said


def test_an_instruction_of_a_megabyte_is_refused() -> None:
    with pytest.raises(ValueError, match="1000000 characters, at most"):
        kept_text("x" * 1_000_000)
    assert kept_text("x" * MOST_LETTERS)
