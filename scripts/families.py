"""Try every family of vision-language models by the real commands, on a tiny random model of each, and tell what works.

    .venv/bin/python -m scripts.families                        # minutes; prints the table
    .venv/bin/python -m scripts.families --write docs/models.md # and puts it there
    .venv/bin/python -m scripts.families llava_siglip gemma3    # some of them

A cell says "yes", or what was raised. It needs no network and no accelerator.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from scripts import ground
from vla_rl import build, config
from vla_rl.bench.memory import measure_updates
from vla_rl.data.record import record
from vla_rl.models.policy import Policy
from vla_rl.models.samples import SAMPLES, sample_backbone
from vla_rl.planning.learning import DryRun
from vla_rl.planning.rows import instruction
from vla_rl.sft import sft
from vla_rl.train import train

NAMES = {
    "idefics3": "Idefics3", "smolvlm": "SmolVLM, SmolVLM2", "qwen2_vl": "Qwen2-VL", "qwen2_5_vl": "Qwen2.5-VL",
    "qwen3_vl": "Qwen3-VL", "llava": "LLaVA (CLIP)", "llava_siglip": "LLaVA (SigLIP)", "llava_next": "LLaVA-NeXT",
    "llava_onevision": "LLaVA-OneVision", "paligemma": "PaliGemma", "paligemma2": "PaliGemma 2", "gemma3": "Gemma 3",
    "internvl": "InternVL", "florence2": "Florence-2",
}  # fmt: skip
COLUMNS = ("sft", "train head", "lora", "all", "ground", "reload", "plan")
WITHIN = 0.15
"""How far off a plan may be, as a share of what an update then takes."""
BEGIN, END = "<!-- made by scripts/families.py -->", "<!-- end -->"
SMALL = (
    "env=gui_click_colour", "action_space={type: command, grid: [8, 8]}", "policy=smolvlm", "policy.head.width=32",
    "device=cpu", "tracker=null", "demos.episodes=2", "replay.capacity=64", "sft.steps=2", "sft.batch_size=4",
    "algorithm.batch_size=4", "algorithm.actor_batch_size=4", "algorithm.critic_width=16", "algorithm.critic_updates=1",
    "algorithm.warmup_updates=0", "algorithm.mc_weight=0.5", "train.steps=12", "train.num_envs=2", "train.workers=0",
    "train.learning_starts=4", "train.updates_per_step=0.5", "train.eval_every=0", "train.save_every=0",
    "train.log_every=4",
)  # fmt: skip
TAUGHT = ("--steps", "2", "--batch", "2", "--tables", "2", "--screens", "2", "--exam", "0")


class Trial:
    """One family: its folder, and what was made of it so far."""

    def __init__(self, name: str, folder: Path, demos: Path) -> None:
        self.name, self.folder = name, folder
        self.source = folder / "backbone"
        self.common = [*SMALL, f"policy.backbone.source={self.source}", f"demos.path={demos}"]
        self.made: dict[str, Path] = {}

    def try_all(self) -> dict[str, str]:
        """What to say in each column."""
        torch.manual_seed(0)
        sample_backbone(self.name).save(self.source)
        steps: dict[str, Callable[[], None]] = {
            "sft": self.sft,
            "train head": lambda: self.train("head"),
            "lora": lambda: self.train("lora"),
            "all": lambda: self.train("all"),
            "ground": self.ground,
            "reload": self.reload,
            "plan": self.plan,
        }
        return {column: outcome(step) for column, step in steps.items()}

    def sft(self) -> None:
        """A supervised start."""
        self.made["sft"] = sft(self._config("sft", "policy.train=head", command="sft"))

    def train(self, part: str) -> None:
        """Reinforcement learning from that start, by a head, adapters or all weights; what trains has to move."""
        start = self.made["sft"]
        self.made[part] = train(self._config(part, f"policy.train={part}", f"train.checkpoint={start}"))
        before, after = (
            load_file(each / "pretrained_model" / "model.safetensors") for each in (start, self.made[part])
        )
        mark = {"head": "head.", "lora": "lora_B", "all": "trunk.backbone."}[part]
        moved = [not torch.equal(value, before.get(name, 0 * value)) for name, value in after.items() if mark in name]
        assert any(moved), f"nothing of {mark} has moved"

    def ground(self) -> None:
        """Pointers of its own, which the folder then holds."""
        out = self.folder / "grounded"
        ground.main([str(self.source), "--out", str(out), *TAUGHT])
        assert (out / "pointers.safetensors").is_file()

    def reload(self) -> None:
        """Every policy, saved and loaded once more, gives the same logits bit for bit."""
        run = self._config("reload")
        spec = build.env_spec(run)
        episode = next(iter(build.demonstrations(run, spec)[0]))
        seen = episode.observation(np.arange(len(episode)), run.replay.stack)
        for part, folder in self.made.items():
            policy = Policy.from_pretrained(folder / "pretrained_model")
            again = self.folder / "again" / part
            policy.save_pretrained(again)
            with torch.no_grad():
                own, same = (each.logits(each.encode(seen)) for each in (policy, Policy.from_pretrained(again)))
            assert all(torch.equal(a, b) for a, b in zip(own, same, strict=True)), f"other logits after {part}"

    def plan(self) -> None:
        """What `vla-rl plan` says of updates of adapters, and of all weights, is what they take."""
        for part in ("lora", "all"):
            run = self._config(f"plan {part}", f"policy.train={part}", "gradient_checkpointing=true")
            planned = DryRun(run, build.env_spec(run), instruction(run), cached=False, copies=False).train()
            taken = measure_updates(run)
            for what in ("total", "activations"):
                share = getattr(planned, what) / getattr(taken, what)
                assert abs(share - 1) <= WITHIN, f"policy.train={part}: {what} planned over taken: {share:.2f}"

    def _config(self, name: str, *more: str, command: str = "train") -> config.RunConfig:
        return config.load([*self.common, *more, f"run_dir={self.folder / name}"], command=command)


def outcome(step: Callable[[], None]) -> str:
    """ "yes", or the first line of what was raised."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            step()
    except Exception as error:
        return f"no: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return "yes"


def table(rows: dict[str, dict[str, str]]) -> str:
    """In Markdown."""
    lines = [f"| family | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {NAMES[name]} | {' | '.join(cells[column] for column in COLUMNS)} |" for name, cells in rows.items()]
    return "\n".join(lines)


def write(file: Path, text: str) -> None:
    """Put the table where the page has the last one."""
    before, _, rest = file.read_text("utf-8").partition(BEGIN)
    file.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", "utf-8")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that random weights deserve."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def main(given: Sequence[str] | None = None) -> dict[str, dict[str, str]]:
    """Try the families and print the table; returns its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(SAMPLES)}; all unless given")
    parser.add_argument("--write", type=Path, help="a page that has the table between its marks")
    chosen = parser.parse_args(given)
    rows = {}
    with tempfile.TemporaryDirectory() as folder, quiet():
        demos = Path(folder, "demos")
        with contextlib.redirect_stdout(io.StringIO()):
            record(config.load([*SMALL, f"demos.path={demos}"], command="demos"))
        for name in chosen.families or SAMPLES:
            begun = time.monotonic()
            rows[name] = Trial(name, Path(folder, name), demos).try_all()
            print(f"{name}: {time.monotonic() - begun:.0f} s, {rows[name]}", flush=True)
    print(table(rows))
    if chosen.write:
        write(chosen.write, table(rows))
    return rows


if __name__ == "__main__":
    main()
