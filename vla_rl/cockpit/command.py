"""`vla-rl cockpit RUN|ENV`: serve the page until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vla_rl import config, envs
from vla_rl.cockpit.alone import Alone
from vla_rl.cockpit.running import Running
from vla_rl.cockpit.stage import Stage
from vla_rl.config.compose import CONFIG_FILE
from vla_rl.data import files
from vla_rl.envs import shorthand
from vla_rl.play.session import Session
from vla_rl.registry import ConfigError, SetupError

LOCAL = ("127.0.0.1", "localhost", "[::1]")
"""What a browser on this machine may call it."""


def cockpit(
    words: Sequence[str],
    config_dir: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    append: bool = False,
    ready: Callable[[str], None] = print,
) -> None:
    """Serve a page that shows a run, or lets a person act in an environment, until Ctrl-C.

    Args:
        words: a run's folder and perhaps `plugins=[...]`; or an environment, and overrides.
        config_dir: a folder of the user's own config files.
        host, port: where to listen; port 0 takes a free one.
        append: whether demonstrations are added to those that lie in `demos.path`.
        ready: is told the page's address.

    Raises:
        SetupError: the web framework is not installed.
        ConfigError: neither a run nor an environment, or one that nobody can act in.
        FileExistsError: the folder of demonstrations exists already, and `append` is not set.
    """
    try:
        import uvicorn

        from vla_rl.cockpit.web import MOST, Cockpit
    except ImportError as error:
        raise SetupError(f"{error}; `pip install 'vla-rl[cockpit]'` installs what the cockpit needs") from error
    if not words:
        raise ConfigError("cockpit: name a run's folder, such as outputs/train/<date>/<run>, or an environment")
    with ThreadPoolExecutor(1, "stage") as calls:  # a renderer, and a browser, belong to one thread
        stage = calls.submit(_stage, words, config_dir, append).result()
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        number, token = listener.getsockname()[1], secrets.token_urlsafe(24)
        name = f"[{host}]" if ":" in host else host
        hosts = {f"{each}:{number}" for each in (*LOCAL, name)}
        app = Cockpit(stage, token, hosts, calls).app()
        settings = uvicorn.Config(
            app, log_level="warning", ws="websockets-sansio", ws_max_size=MOST, ws_ping_interval=5, ws_ping_timeout=5,
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        ready(f"cockpit: http://{name}:{number}/?token={token}")
        uvicorn.Server(settings).run([listener])


def _stage(words: Sequence[str], config_dir: Path | None, append: bool) -> Stage:
    """What the words name: a run where they begin with its folder, else an environment."""
    folder = Path(words[0]).expanduser()
    if (folder / CONFIG_FILE).is_file():
        return Running(folder, words[1:])
    if not folder.exists() and (folder.is_absolute() or len(folder.parts) > 2) and "=" not in words[0]:
        raise FileNotFoundError(f"cockpit: there is no folder {folder}")
    if folder.is_dir():
        raise ConfigError(f"cockpit: {folder} holds no {CONFIG_FILE}, so it is no run")
    run = config.load(shorthand.overrides_of(words, config_dir), config_dir=config_dir, command="cockpit").only(
        "cockpit"
    )
    demos, first_seed = run.demos.folder, run.demos.seed
    if demos.exists() and not append:
        raise FileExistsError(
            f"demos.path: {demos} exists already; add to it with --append, or name another folder by demos.path=FOLDER"
        )
    if demos.exists():
        first_seed = max(first_seed, *(episode.seed + 1 for episode in files.load(demos)))
    return Alone(Session(envs.factory(run)(), demos, first_seed))
