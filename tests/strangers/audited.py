"""A command of vla-rl that writes down, in the file that is named first, what it opens, connects to and starts."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

WATCHED = ("open", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "import")
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note(event: str, arguments: tuple[Any, ...]) -> None:
    """Python calls this at each event, of every thread."""
    if event in WATCHED:
        os.write(log, (json.dumps([event, str(arguments[:2])]) + "\n").encode())


if __name__ == "__main__":
    from vla_rl import cli

    sys.addaudithook(note)
    raise SystemExit(cli.main(sys.argv[2:]))
