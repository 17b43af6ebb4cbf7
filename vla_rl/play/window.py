"""Playing in a window, by keyboard and mouse; each thing that is done is one step."""

from __future__ import annotations

import tkinter
from collections.abc import Callable
from typing import Any, Protocol

from PIL import ImageTk

from vla_rl.play.controls import RefusedError
from vla_rl.play.entry_pad import EntryPad
from vla_rl.play.hand import Hand
from vla_rl.play.hand_pad import HandPad
from vla_rl.play.session import Session

NARROWEST = 560
"""Pixels that the window is wide at least."""
CONTROL = 0x4
"""Of an event's state: whether the control key is held."""


class Pad(Protocol):
    """Turns what happens to keyboard and mouse into what a session does. Places are in pixels of the picture.

    Every method returns what there is to say, or None, and raises RefusedError where something cannot be done.

    Attributes:
        size: width and height of the picture that is shown, in pixels; the window sets it.
        stop: the key that ends it.
    """

    size: tuple[int, int]
    stop: str

    @property
    def help(self) -> tuple[str, ...]:
        """What can be done, a line each."""

    @property
    def prompt(self) -> str:
        """What has been typed and not been sent; "" where nothing can be."""

    def key(self, name: str, letter: str) -> str | None:
        """A key was pressed: its name in Tk (`Control-s` with the control key), and what it writes, or ""."""

    def press(self, x: int, y: int) -> str | None:
        """The mouse's first button went down."""

    def move(self, x: int, y: int) -> str | None:
        """The mouse has moved."""

    def release(self, x: int, y: int) -> str | None:
        """The mouse's first button went up."""

    def wheel(self, up: bool) -> str | None:
        """The wheel turned by one notch."""


class Window:
    """Shows what can be seen, the text of the task and how it goes.

    Args:
        root: Tk's own window; it is closed in the end.
        session: what is played.
    """

    def __init__(self, root: tkinter.Tk, session: Session) -> None:
        self.root, self.session = root, session
        self.pad: Pad = self._pad()
        self._shown: tuple[Any, ...] = ()
        self._error: BaseException | None = None
        root.report_callback_exception = self._fail
        root.minsize(NARROWEST, 1)
        root.resizable(False, False)
        self._photo: ImageTk.PhotoImage | None = None
        self.scene = tkinter.Label(root, borderwidth=0, highlightthickness=0)
        self._task = self._label("TkDefaultFont 15 bold")
        self.prompt = self._label("TkFixedFont 13", background="white", foreground="black")
        self.status = self._label("TkDefaultFont 12")
        self._help = self._label("TkDefaultFont 10", foreground="#555555")
        self._help.configure(text="\n".join(self.pad.help))
        self.scene.pack(padx=8, pady=8)
        for part in (self._task, *([self.prompt] if self.pad.prompt else []), self.status, self._help):
            part.pack(fill="x")
        self._bind()
        self._show("")

    def run(self) -> None:
        """Until the window is closed. Raises what acting or recording raised; that closes it too."""
        print(self.session.about)
        self.root.mainloop()
        if self._error is not None:
            raise self._error

    def _pad(self) -> Pad:
        controls = self.session.controls
        if isinstance(controls, Hand):
            return HandPad(self.session, controls, self._later)
        return EntryPad(self.session, controls)

    def _label(self, font: str, **look: Any) -> tkinter.Label:
        return tkinter.Label(self.root, anchor="w", justify="left", font=font, padx=8, pady=3, **look)

    def _bind(self) -> None:
        bind, pad = self.root.bind, self.pad
        bind("<Key>", self._key)
        bind("<ButtonPress-1>", lambda event: self._do(lambda: pad.press(*self._place(event))))
        bind("<ButtonRelease-1>", lambda event: self._do(lambda: pad.release(*self._place(event))))
        bind("<Motion>", lambda event: self._do(lambda: pad.move(*self._place(event))))
        bind("<Button-4>", lambda event: self._do(lambda: pad.wheel(up=True)))
        bind("<Button-5>", lambda event: self._do(lambda: pad.wheel(up=False)))
        bind("<MouseWheel>", lambda event: self._do(lambda: pad.wheel(up=event.delta > 0)))

    def _key(self, event: Any) -> None:
        letter = event.char if event.char.isprintable() else ""
        held = int(event.state) & CONTROL and not letter
        name = f"Control-{event.keysym.lower()}" if held else event.keysym
        if name == self.pad.stop:
            self.root.destroy()
        else:
            self._do(lambda: self.pad.key(name, letter))

    def _place(self, event: Any) -> tuple[int, int]:
        """Where the mouse is, in pixels of the picture; it may be beyond it."""
        return event.x_root - self.scene.winfo_rootx(), event.y_root - self.scene.winfo_rooty()

    def _later(self, milliseconds: int, act: Callable[[], str | None]) -> None:
        self.root.after(milliseconds, lambda: self._do(act))

    def _do(self, act: Callable[[], str | None]) -> None:
        """Act, and show what came of it, or why it cannot be."""
        try:
            said = act()
        except RefusedError as error:
            said = str(error)
        tape = self.session.tape
        now = (tape, len(tape), self.pad.prompt)
        if said or now != self._shown:
            self._show(said or "")

    def _show(self, said: str) -> None:
        session = self.session
        self._shown = (session.tape, len(session.tape), self.pad.prompt)
        picture = session.picture()
        self.pad.size = picture.size
        self._photo = ImageTk.PhotoImage(picture, master=self.root)
        self.scene.configure(image=self._photo)
        self.root.title(session.tape.task)
        self._task.configure(text=session.text)
        self.prompt.configure(text=self.pad.prompt)
        self.status.configure(text=f"{session.status}\n{said}")
        for part in (self._task, self.prompt, self.status, self._help):
            part.configure(wraplength=max(picture.width, NARROWEST) - 16)

    def _fail(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        self._error = error
        self.root.destroy()
