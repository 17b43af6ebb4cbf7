"""Playing by lines of text, where there is no screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from vla_rl.play.controls import RefusedError, UnknownError, steps
from vla_rl.play.session import Session


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
        rest = (
            *(["  expert [STEPS]  let the scripted expert act"] if self.session.has_expert else []),
            "  show            draw what can be seen into a PNG file",
            "  save            keep the episode, which must have ended in success",
            "  drop            forget the episode and begin the next",
            "  quit            stop",
        )
        return "\n".join((*self.session.controls.help, *rest))

    def _carry_out(self, words: list[str]) -> None:
        if words and words[0] == "quit":
            _nothing_more("quit", words[1:])
        elif words and words[0] in self._commands:
            self._commands[words[0]](words[1:])
        else:
            self._act(words)

    def _act(self, words: list[str]) -> None:
        try:
            action, count = self.session.controls.read(words, self.session.text)
        except UnknownError as error:
            raise UnknownError(error.word, (*error.known, *self._commands, "quit")) from error
        self._repeat(lambda: self.session.act(action), count)

    def _expert(self, words: list[str]) -> None:
        def act() -> None:
            done = self.session.expert()
            if done:
                self._say(done)

        self._repeat(act, steps(words))

    def _repeat(self, act: Callable[[], object], count: int) -> None:
        """So often, or until the episode ends; the text of the task is told again where it has changed."""
        self._check_going()
        before = self.session.text
        for _ in range(count):
            act()
            if self.session.tape.ended:
                break
        self._say(self.session.status if self.session.text == before else self._where)

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
        self._say(self._where)

    @property
    def _where(self) -> str:
        return f"{' | '.join(self.session.text.splitlines())!r}; {self.session.status}"

    def _say(self, text: str) -> None:
        print(text, file=self._sink, flush=True)


def _nothing_more(command: str, words: list[str]) -> None:
    if words:
        raise RefusedError(f"{command}: takes nothing more, got {' '.join(words)!r}")
