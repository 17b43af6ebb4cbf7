"""A person acts, in a window or by lines of text, and what succeeds becomes demonstrations."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vla_rl import envs
from vla_rl.data import files
from vla_rl.play.lines import Lines
from vla_rl.play.session import Session

if TYPE_CHECKING:
    from vla_rl.config import RunConfig


def play(run: RunConfig, lines: bool = False, append: bool = False) -> None:
    """Let a person act in the run's environment, and record what is kept into `run.demos.path`.

    In a window, or where there is no screen (or with `lines`) by lines on stdin. Episodes begin with the seed
    `demos.seed`. With `append` they are added to those that lie there.

    Raises:
        ConfigError: an environment that a person cannot play, or that cannot be recorded.
        FileExistsError: the folder exists already, and `append` is not set.
    """
    session = session_of(run.only("play"), append)
    assert run.run_dir is not None, "a config is made by load()"
    try:
        why = "you asked for lines" if lines else _without_window(session)
        if why:
            print(f"no window: {why}; type `help` to see what can be said")
            Lines(session, sys.stdin, sys.stdout, pictures=run.run_dir).run()
    finally:
        session.env.close()
    print(
        f"{session.kept} episode(s) kept"
        + (f" in {session.folder}; `vla-rl sft` trains on them" if session.kept else "")
    )


def session_of(run: RunConfig, append: bool = False) -> Session:
    """A session in the run's environment, which keeps episodes in `run.demos.path`. Raises as `play` does."""
    folder, first_seed = run.demos.folder, run.demos.seed
    if folder.exists() and not append:
        raise FileExistsError(
            f"demos.path: {folder} exists already; add to it with --append, or name another folder by demos.path=FOLDER"
        )
    if folder.exists():
        first_seed = max(first_seed, *(episode.seed + 1 for episode in files.load(folder)))
    env = envs.factory(run)()
    try:
        return Session(env, folder, first_seed)
    except BaseException:
        env.close()
        raise


def _without_window(session: Session) -> str:
    """Run the window to its end; or say why there can be none."""
    try:
        import tkinter

        from vla_rl.play.window import Window
    except ImportError as error:
        return f"tkinter is missing ({error}); on Debian `apt-get install python3-tk` brings it"
    try:
        root = tkinter.Tk()
    except tkinter.TclError as error:
        return f"there is no screen ({error})"
    Window(root, session).run()
    return ""
