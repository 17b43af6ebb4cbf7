"""Every task in one picture, from its scripted expert: `python scripts/worlds.py docs/worlds.png`.

With some pages of MiniWoB++ where they are installed (`bash scripts/install_suite.sh web`), else with gaps for them.
"""

import argparse
import textwrap
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium
from PIL import Image, ImageDraw, ImageFont

import sims  # noqa: F401  (registers the environments)
from sims.gui.themes import THEMES
from sims.register import SCREENS, TABLE_TOP
from sims.web.miniwob import MiniWoB
from vla_rl.actions.expert import expert_action
from vla_rl.envs import steps

SIDE, CAPTION, GAP, COLUMNS, SEED = 256, 52, 6, 5, 3
WHEN = {"FragileReach": 0.45, "GamedDrawer": 0.35, "TidyUp": 0.68, "Pick": 0.95, "GamedStack": 0.65}
WHEN |= {"GuiDialog": 0, "GuiChooseFromMenu": 0.5, "GuiFlow": 0.6, "GuiScrollToFind": 0.5, "GuiGamedProgress": 0.6}
WHEN |= {"MiniWoB-click-dialog": 0}
"""At which part of the expert's episode a task says most; elsewhere at OFTEN."""
OFTEN = 0.85
SHOWN = "click-test-2 click-color click-dialog enter-text login-user click-shape use-colorwheel"
PAGES = tuple(f"vla_rl/MiniWoB-{name}-v0" for name in SHOWN.split())
IDS = (*TABLE_TOP, *SCREENS, *PAGES)
HARD = {"vla_rl/GuiDesk-v0": {"unreadable": 1.0}}
"""Parameters that show what a task is about."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("out", type=Path)
    options = arguments.parse_args()
    rows = -(-len(IDS) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (SIDE + GAP) - GAP, rows * (SIDE + CAPTION)), "white")
    for number, env_id in enumerate(IDS):
        row, column = divmod(number, COLUMNS)
        sheet.paste(tile(env_id), (column * (SIDE + GAP), row * (SIDE + CAPTION)))
    # Few colours: a third of the bytes, and no difference to see.
    sheet.quantize(256, dither=Image.Dither.NONE).save(options.out, optimize=True)


def tile(env_id: str) -> Image.Image:
    """A telling moment, the id and the instruction under it."""
    made = Image.new("RGB", (SIDE, SIDE + CAPTION), "white")
    if env_id in PAGES and MiniWoB.missing():
        print(f"{env_id}: {MiniWoB.missing()}")
        return made
    env = gymnasium.make(env_id, render_mode="rgb_array", **_own(env_id))
    name = env_id.removeprefix("vla_rl/").removesuffix("-v0")
    act_out(env, limit=round(WHEN.get(name, OFTEN) * act_out(env)))
    picture = Image.fromarray(env.render())
    picture.thumbnail((SIDE, SIDE))
    made.paste(picture, ((SIDE - picture.width) // 2, 0))
    draw = ImageDraw.Draw(made)
    draw.text((4, SIDE + 2), env_id, "black", ImageFont.load_default(14))
    words = textwrap.fill(env.unwrapped.world.instruction, 46, max_lines=2, placeholder=" ...")
    draw.multiline_text((4, SIDE + 19), words, "dimgray", ImageFont.load_default(11), spacing=2)
    env.close()
    return made


def _own(env_id: str) -> dict[str, Any]:
    """What an environment is made with."""
    if env_id in PAGES:
        return {"whole": True}
    large = {"sensors": ["instruction"], "render_width": SIDE, "render_height": SIDE, **HARD.get(env_id, {})}
    if env_id in SCREENS:
        looks = list(THEMES) * len(SCREENS)
        large |= {"size": (SIDE // 2,) * 2, "theme": looks[SCREENS.index(env_id)]}
    return large


def act_out(env: gymnasium.Env, limit: int = 10_000) -> int:
    """Let the expert act for `limit` steps, or to the episode's end; how many it took."""
    observation, _ = env.reset(seed=SEED)
    return sum(1 for _ in islice(steps(env, lambda seen: expert_action(env), observation), limit))


if __name__ == "__main__":
    main()
