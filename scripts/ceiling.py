"""What a policy does that sees everything: whether eyes or critic hold a table-top task back.

Usage: .venv/bin/python scripts/ceiling.py TASK [--seed N] [--noise PIXELS] [--misses SHARE] [KEY=VALUE ...]

As scripts/quickstart.py with Push's recipe, but the cameras show nothing, the instruction always says the same (of a
black picture, pointers make what the words suggest, which is noise to learn by heart), and the sensor `named_things`
tells all. With --noise or --misses, `named_places` tells where the cameras have everything, as eyes that err so.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from vla_rl import config

BLACK = {"type": "close_up", "name": "front"}
"""A camera that no tool calls."""
OTHERS = ("camera", "depth", "segmentation", "instruction")
"""What is left out."""
INSTRUCTION = {"type": "instruction", "instead": "go"}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("task", help="a file of the group env, such as push")
    arguments.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as train.steps=20000")
    arguments.add_argument("--noise", type=float, default=None, help="of each coordinate, in 64ths of a picture")
    arguments.add_argument("--misses", type=float, default=None, help="share of readings of a thing that are anywhere")
    options, rest = arguments.parse_known_intermixed_args()
    errors = {"noise": options.noise, "misses": options.misses}
    given = {key: value for key, value in errors.items() if value is not None}
    chosen = [*seeing(options.task, **given), *options.overrides]
    quickstart = [sys.executable, "scripts/quickstart.py", "push", "--out", f"outputs/ceiling/{options.task}", *rest]
    raise SystemExit(subprocess.run([*quickstart, *chosen], check=False).returncode)


def seeing(task: str, **errors: float) -> list[str]:
    """The overrides by which a policy sees everything in an environment of that name; given `errors`, by places that
    err so."""
    sensors = config.load([f"env={task}"]).env.sensors or []
    others = [sensor for sensor in sensors if sensor["type"] not in OTHERS]
    seen = [BLACK, INSTRUCTION, *others, {"type": "named_places" if errors else "named_things", "count": 3, **errors}]
    texts = ["{" + ", ".join(f"{key}: {value}" for key, value in each.items()) + "}" for each in seen]
    # Of a black picture there is nothing to see, and nothing to remember.
    small = ["env.image_size=null", "policy.backbone.image_size=null", "policy.remembers=false"]
    return [f"env={task}", f"env.sensors=[{', '.join(texts)}]", *small]


if __name__ == "__main__":
    main()
