"""`vla-rl cockpit RUN|ENV`: serve the page until Ctrl-C."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vla_rl import config
from vla_rl.cockpit.alone import Alone
from vla_rl.cockpit.running import Running
from vla_rl.cockpit.stage import Stage
from vla_rl.config.compose import CONFIG_FILE
from vla_rl.envs import shorthand
from vla_rl.play import session_of
from vla_rl.registry import ConfigError, SetupError
from vla_rl.runtime.listening import LOCAL, in_address, listener

EVERYWHERE = ("", "0.0.0.0", "::")


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
        host, port: where to listen, which is also what the page's address begins with; port 0 takes a free one.
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
    if host in EVERYWHERE:
        raise ConfigError(f"--host: {host} is every address; give the one that the page is opened by, or use ssh -L")
    if not words:
        raise ConfigError("cockpit: name a run's folder, such as outputs/train/<date>/<run>, or an environment")
    with ThreadPoolExecutor(1, "stage") as calls:  # a renderer, and a browser, belong to one thread
        stage = calls.submit(_stage, words, config_dir, append).result()
        socket = listener(host, port, "cockpit")
        number, token = socket.getsockname()[1], secrets.token_urlsafe(24)
        name = in_address(host)
        hosts = {f"{each}:{number}" for each in (*LOCAL, name)}
        app = Cockpit(stage, token, hosts, calls).app()
        settings = uvicorn.Config(
            app, log_level="warning", ws="websockets-sansio", ws_max_size=MOST, ws_ping_interval=5, ws_ping_timeout=5,
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        ready(f"cockpit: http://{name}:{number}/?token={token}")
        uvicorn.Server(settings).run([socket])


def _stage(words: Sequence[str], config_dir: Path | None, append: bool) -> Stage:
    """What the words name: a run where they begin with its folder, else an environment."""
    folder = Path(words[0]).expanduser()
    if (folder / CONFIG_FILE).is_file():
        return Running(folder, words[1:])
    if not folder.exists() and (folder.is_absolute() or len(folder.parts) > 2) and "=" not in words[0]:
        raise FileNotFoundError(f"cockpit: there is no folder {folder}")
    if folder.is_dir() and "/" in words[0]:
        raise ConfigError(f"cockpit: {folder} holds no {CONFIG_FILE}, so it is no run")
    overrides = shorthand.overrides_of(words, config_dir)
    run = config.load(overrides, config_dir=config_dir, command="cockpit")
    return Alone(session_of(run.only("cockpit"), append))
