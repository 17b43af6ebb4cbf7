"""Playing in a window, by keyboard and mouse; each key press is one step."""

from __future__ import annotations

import tkinter
from collections.abc import Callable
from typing import Any

from PIL import ImageTk

from vla_rl.play.controls import RefusedError
from vla_rl.play.entries import FINGERS, MOVES
from vla_rl.play.session import Session

KEYS = {
    "Left": "left",
    "Right": "right",
    "Up": "forward",
    "Down": "back",
    "Prior": "up",
    "w": "up",
    "Next": "down",
    "s": "down",
    "q": "anticlockwise",
    "e": "clockwise",
}
"""A key's name in Tk -> a movement. Prior and Next are Page Up and Page Down."""
DRAG = 40.0
"""Pixels that the mouse is dragged for as far as a step can go."""
LEAST_DRAG = 10
"""Pixels before a drag counts."""


class Window:
    """Shows every camera, the instruction and how it goes.

    Args:
        root: Tk's own window; it is closed in the end.
        session: what is played.
    """

    def __init__(self, root: tkinter.Tk, session: Session) -> None:
        self.root, self.session = root, session
        self._entry = 0
        self._error: BaseException | None = None
        root.report_callback_exception = self._fail
        self._drag: tuple[int, int] | None = None
        self._photo: ImageTk.PhotoImage | None = None
        self._task = tkinter.Label(root, anchor="w", font=("TkDefaultFont", 16, "bold"))
        self._scene = tkinter.Label(root, borderwidth=0)
        self.status = tkinter.Label(root, anchor="w", font=("TkDefaultFont", 12))
        self._help = tkinter.Label(root, anchor="w", justify="left", text=self._help_text())
        for part in (self._task, self._scene, self.status, self._help):
            part.pack(fill="x")
        root.bind("<Key>", self._press)
        root.bind("<Button-4>", lambda event: self._do(lambda: self._move("up")))
        root.bind("<Button-5>", lambda event: self._do(lambda: self._move("down")))
        root.bind("<MouseWheel>", lambda event: self._do(lambda: self._move("up" if event.delta > 0 else "down")))
        root.bind("<Button-1>", lambda event: setattr(self, "_drag", (event.x_root, event.y_root)))
        root.bind("<B1-Motion>", self._dragged)
        self._show("")

    def run(self) -> None:
        """Until the window is closed. Raises what acting or recording raised; that closes it too."""
        print(self.session.about)
        self.root.mainloop()
        if self._error is not None:
            raise self._error

    def _fail(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        self._error = error
        self.root.destroy()

    def _help_text(self) -> str:
        controls = self.session.controls
        if controls.choices:
            lines = ["digits: choose an action"]
        else:
            moves = {"x": "left right: x", "y": "up down: y", "z": "w s, page up/down, wheel: z", "yaw": "q e: yaw"}
            lines = [", ".join(text for name, text in moves.items() if name in controls.names)]
            lines += ["space: open or close the fingers"] if FINGERS in controls.names else []
            lines += ["drag: x and y"] if {"x", "y"} <= set(controls.names) else []
            lines.append(f"any entry ({', '.join(controls.names)}): its number chooses it, + and - change it")
        lines += ["h: let the expert act once"] if self.session.has_expert else []
        lines.append(
            f"enter: keep an episode that succeeded, in {self.session.folder}; backspace: drop it; escape: stop"
        )
        return "\n".join(line for line in lines if line)

    def _press(self, event: Any) -> None:
        key = event.keysym
        if key == "Escape":
            self.root.destroy()
            return
        known: dict[str, Callable[[], Any]] = {
            "Return": self.session.keep,
            "BackSpace": self.session.drop,
            "h": self.session.expert,
            "space": self._toggle,
            "plus": lambda: self._change(1),
            "KP_Add": lambda: self._change(1),
            "equal": lambda: self._change(1),
            "minus": lambda: self._change(-1),
            "KP_Subtract": lambda: self._change(-1),
        }
        if key in KEYS:
            self._do(lambda: self._move(KEYS[key]))
        elif key in known:
            self._do(known[key])
        elif key.removeprefix("KP_").isdigit():
            self._do(lambda: self._digit(int(key.removeprefix("KP_"))))

    def _do(self, act: Callable[[], Any]) -> None:
        """Act, and show what came of it, or why it cannot be."""
        try:
            said = act()
        except RefusedError as error:
            said = str(error)
        self._show(said if isinstance(said, str) else "")

    def _move(self, word: str) -> None:
        name, sign = MOVES[word]
        self._set({name: self.session.controls.end(name, sign)})

    def _toggle(self) -> None:
        controls = self.session.controls
        opened = controls.value(FINGERS) > (controls.end(FINGERS, 1) + controls.end(FINGERS, -1)) / 2
        self._set({FINGERS: controls.end(FINGERS, -1 if opened else 1)})

    def _digit(self, number: int) -> str | None:
        """Choose an action where they are choices, else an entry, counted from 1."""
        controls = self.session.controls
        if controls.choices:
            self.session.act(controls.choose(number))
            return None
        if not 1 <= number <= len(controls.names):
            raise RefusedError(f"{number}: entries go from 1 to {len(controls.names)}")
        self._entry = number - 1
        return f"+ and - change {controls.names[self._entry]}"

    def _change(self, sign: int) -> None:
        controls = self.session.controls
        if controls.choices:
            raise RefusedError("digits choose an action here")
        name = controls.names[self._entry]
        self._set({name: controls.end(name, sign)})

    def _dragged(self, event: Any) -> None:
        if self._drag is None:
            return
        right, down = event.x_root - self._drag[0], event.y_root - self._drag[1]
        if max(abs(right), abs(down)) < LEAST_DRAG:
            return
        self._drag = (event.x_root, event.y_root)
        self._do(lambda: self._set({"x": self._share("x", right), "y": self._share("y", -down)}))

    def _share(self, name: str, pixels: int) -> float:
        """So far from the middle of an entry's range towards its end as the mouse went."""
        low, high = (self.session.controls.end(name, sign) for sign in (-1, 1))
        return (low + high) / 2 + (high - low) / 2 * max(-1.0, min(1.0, pixels / DRAG))

    def _set(self, changes: dict[str, float]) -> None:
        if self.session.tape.ended:
            raise RefusedError("the episode is over: enter keeps it, backspace drops it")
        self.session.act(self.session.controls.set(changes))

    def _show(self, said: str) -> None:
        self._photo = ImageTk.PhotoImage(self.session.picture(), master=self.root)
        self._scene.configure(image=self._photo)
        self.root.title(self.session.tape.task)
        self._task.configure(text=self.session.tape.task)
        self.status.configure(text=f"{self.session.status}{f'  ({said})' if said else ''}")
