"""Whoever plays in tests: by lines, or in the window."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vla_rl.play.lines import Lines
from vla_rl.play.session import Session


def say(session: Session, folder: Path, *lines: str) -> list[str]:
    """What each line is answered with, the greeting and the farewell left out."""
    sink = io.StringIO()
    Lines(session, io.StringIO("\n".join((*lines, "quit", "never read"))), sink, folder / "pictures").run()
    answers = sink.getvalue().splitlines()[2:]
    return answers[:-1] if answers and answers[-1].startswith("the ") else answers


def window(session: Session) -> tuple[Any, Callable]:
    """The window of a session, and what presses keys in it."""
    import tkinter

    from vla_rl.play.window import Window

    made = Window(tkinter.Tk(), session)
    made.root.update()
    made.root.focus_force()
    made.root.update()

    def press(*events: str, **where: int) -> None:
        for event in events:
            made.root.event_generate(event, **where)
            made.root.update()

    return made, press
