"""Commands of vla-rl, and lines of Python, one after another in one process; what came of each, as JSON.

Usage: many_commands.py '[["pull", "owner/name", "folder"], "print(1)", ...]'
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any


def outcome(what: Any) -> dict[str, Any]:
    """The exit code, and what was said."""
    from vla_rl import cli

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        if isinstance(what, str):
            exec(what, {})
            code = 0
        else:
            code = cli.main(what)
    return {"code": code, "said": said.getvalue()}


if __name__ == "__main__":
    print(json.dumps([outcome(what) for what in json.loads(sys.argv[1])]))
