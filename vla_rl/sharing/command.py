"""`vla-rl push` and `vla-rl pull`, from their options."""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_rl.sharing import pulling, pushing


def push(options: argparse.Namespace) -> None:
    """Upload, and say where it lies now."""
    told = pushing.push(
        options.checkpoint,
        options.name,
        overrides=options.overrides,
        config_dir=options.config_dir,
        evaluation=options.evaluation,
        private=options.private,
        revision=options.revision,
    )
    print(f"pushed: {told}")


def pull(options: argparse.Namespace) -> None:
    """Download, and say where it lies now, and what does not."""
    folder = options.folder or Path("outputs", "pulled", *options.name.split("/"))
    left_out = pulling.pull(options.name, folder, revision=options.revision, most_gb=options.max_gb)
    if left_out:
        print(f"left out, since a policy needs no such files: {', '.join(left_out)}")
    print(f"pulled: {folder}")
