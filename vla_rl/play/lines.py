"""Playing by lines of text, where there is no screen."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from vla_rl.play.controls import MOVES, RefusedError
from vla_rl.play.session import Session
from vla_rl.registry import nearest

MOST = 1000
"""Steps that one line may ask for."""


class Lines:
    """Reads lines until `quit` or their end; a line that cannot be carried out is answered and changes nothing.

    Args:
        session: what is played.
        source: the lines.
        sink: the answers.
        pictures: a folder for what `show` draws.
    """

    def __init__(self, session: Session, source: TextIO, sink: TextIO, pictures: Path) -> None:
        self.session, self._source, self._sink, self._pictures = session, source, sink, pictures
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "wait": lambda words: self._act_often({}, words),
            "expert": self._expert,
            "show": self._show,
            "save": self._save,
            "drop": self._drop,
            "help": lambda words: self._say(self.help),
        }

    def run(self) -> None:
        """Answer every line."""
        self._say(self.session.about)
        self._greet()
        for line in self._source:
            words = line.split()
            if words == ["quit"]:
                break
            try:
                self._carry_out(words)
            except RefusedError as error:
                self._say(f"? {error}")
        if len(self.session.tape):
            self._say(f"the {len(self.session.tape)} step(s) of the episode under way are not kept")

    @property
    def help(self) -> str:
        """Every line that can be said."""
        controls = self.session.controls
        if controls.choices:
            last = self._first + controls.choices - 1
            acts = [f"  {self._first} [STEPS]        choose an action, from {self._first} to {last}"]
        else:
            first = " ".join(f"{name} {controls.value(name):g}" for name in controls.names[:2])
            moves = " ".join(word for word, (name, _) in MOVES.items() if name in controls.names)
            acts = [
                f"  {first} [STEPS]   set entries of the action (there are: {', '.join(controls.names)})",
                *([f"  left [STEPS]    move: {moves}"] if moves else []),
                "  wait [STEPS]    set nothing (an empty line does it too)",
            ]
        rest = (
            *(["  expert [STEPS]  let the scripted expert act"] if self.session.has_expert else []),
            "  show            draw every camera into a PNG file",
            "  save            keep the episode, which must have ended in success",
            "  drop            forget the episode and begin the next",
            "  quit            stop",
        )
        return "\n".join((*acts, *rest))

    @property
    def _first(self) -> int:
        return int(getattr(self.session.controls.space, "start", 0))

    def _carry_out(self, words: list[str]) -> None:
        if not words:
            self._act_often({}, [])
        elif words[0] == "quit":
            _nothing_more("quit", words[1:])
        elif words[0] in self._commands:
            self._commands[words[0]](words[1:])
        elif words[0] in MOVES:
            name, sign = MOVES[words[0]]
            self._act_often({name: self.session.controls.end(name, sign)}, words[1:])
        elif self.session.controls.choices and _number(words[0]) is not None:
            self._choose(words)
        else:
            self._set(words)

    def _set(self, words: list[str]) -> None:
        """`x 0.5 z -1`, and perhaps for how many steps."""
        controls = self.session.controls
        pairs, rest = words[: len(words) // 2 * 2], words[len(words) // 2 * 2 :]
        changes = {}
        for name, text in zip(pairs[::2], pairs[1::2], strict=True):
            self._check_word(name)
            value = _number(text)
            if value is None:
                raise RefusedError(f"{name}: {text!r} is no number")
            if name in changes:
                raise RefusedError(f"{name}: given twice")
            changes[name] = value
        if not pairs or (rest and _number(rest[0]) is None):
            self._check_word(words[-1])
            raise RefusedError(f"{words[-1]}: give a value, such as `{words[-1]} {controls.value(words[-1]):g}`")
        self._act_often(changes, rest)

    def _check_word(self, word: str) -> None:
        known = (*self.session.controls.names, *MOVES, *self._commands, "quit")
        if word not in self.session.controls.names:
            raise RefusedError(f"cannot read {word!r}; {nearest(word, known)} (`help` lists everything)")

    def _choose(self, words: list[str]) -> None:
        number = _number(words[0])
        if number is None or number != int(number):
            raise RefusedError(f"{words[0]}: a choice is a whole number")
        action = self.session.controls.choose(int(number))
        self._repeat(lambda: self.session.act(action), words[1:])

    def _act_often(self, changes: dict[str, float], words: list[str]) -> None:
        steps = _steps(words)
        self._check_going()
        controls = self.session.controls
        self._repeat(lambda: self.session.act(controls.set(changes)), [str(steps)])

    def _expert(self, words: list[str]) -> None:
        self._repeat(self.session.expert, words)

    def _repeat(self, act: Callable[[], Any], words: list[str]) -> None:
        """As often as `words` say, or until the episode ends."""
        steps = _steps(words)
        self._check_going()
        for _ in range(steps):
            act()
            if self.session.tape.ended:
                break
        self._say(self.session.status)

    def _check_going(self) -> None:
        if self.session.tape.ended:
            raise RefusedError("the episode is over: `save` it or `drop` it")

    def _show(self, words: list[str]) -> None:
        _nothing_more("show", words)
        self._pictures.mkdir(parents=True, exist_ok=True)
        path = self._pictures / f"seed_{self.session.tape.seed}_step_{len(self.session.tape)}.png"
        self.session.picture().save(path)
        self._say(str(path))

    def _save(self, words: list[str]) -> None:
        _nothing_more("save", words)
        self._say(self.session.keep())
        self._greet()

    def _drop(self, words: list[str]) -> None:
        _nothing_more("drop", words)
        self._say(self.session.drop())
        self._greet()

    def _greet(self) -> None:
        self._say(f"{self.session.tape.task!r}; {self.session.status}")

    def _say(self, text: str) -> None:
        print(text, file=self._sink, flush=True)


def _steps(words: list[str]) -> int:
    """The number of steps that a line ends with; 1 where it says none."""
    if not words:
        return 1
    number = _number(words[0])
    if len(words) > 1 or number is None or number != int(number) or not 1 <= number <= MOST:
        raise RefusedError(f"{' '.join(words)!r}: expected the number of steps, from 1 to {MOST}")
    return int(number)


def _nothing_more(command: str, words: list[str]) -> None:
    if words:
        raise RefusedError(f"{command}: takes nothing more, got {' '.join(words)!r}")


def _number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
