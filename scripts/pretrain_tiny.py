"""Make the tiny backbone that ships: draw pictures, train, score, save. docs/backbone.md tells what comes out.

.venv/bin/python scripts/pretrain_tiny.py                       # what ships: assets/backbones/tiny
.venv/bin/python scripts/pretrain_tiny.py --steps 300 --apart 100 --tables 2000 --screens 1000 --out outputs/try
"""

from __future__ import annotations

import argparse
import time

import torch

from sims.grounding.exams import EXAMS, exam
from sims.grounding.picture import Split
from sims.grounding.samples import CELL_LABELS, batches, draw, phrasebook
from vla_rl.grounding import Recipe, ground, print_losses, score, write_card
from vla_rl.models.backbone import Backbone
from vla_rl.models.pointers import Pointers
from vla_rl.models.tiny import initialise, tiny_config, tiny_tokenizer


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="assets/backbones/tiny")
    parser.add_argument("--start", help="a folder whose weights to go on from, instead of fresh ones")
    parser.add_argument("--tables", type=int, default=30_000, help="pictures of tables")
    parser.add_argument("--screens", type=int, default=10_000, help="pictures of screens")
    parser.add_argument("--apart", type=int, default=5000, help="steps that teach vision and text each by itself")
    parser.add_argument("--steps", type=int, default=8500, help="in all")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch; the steps are small")
    parser.add_argument("--processes", type=int, default=2, help="that draw")
    parser.add_argument("--exam", type=int, default=500, help="pictures in each exam")
    return parser.parse_args()


def main() -> None:
    """Make the backbone."""
    chosen = options()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    start = time.perf_counter()
    tables = draw("table", Split(), chosen.seed, chosen.tables, chosen.processes)
    pictures = tables + draw("screen", Split(), chosen.seed, chosen.screens, chosen.processes)
    drawing = time.perf_counter() - start
    print(f"drew {len(pictures)} pictures in {drawing:.0f} s", flush=True)
    if chosen.start:
        backbone = Backbone.load(chosen.start)
        pointers = Pointers.load(chosen.start, backbone.hidden_size)
    else:
        tokenizer = tiny_tokenizer(phrasebook(pictures, chosen.seed))
        backbone = Backbone.from_config(tiny_config(len(tokenizer), chosen.width), tokenizer)
        initialise(backbone.model)
        pointers = Pointers(backbone.hidden_size)
    recipe = Recipe(chosen.steps, apart_first=chosen.apart)
    stream = batches(pictures, chosen.batch, chosen.steps, chosen.seed)
    training = ground(backbone, pointers, stream, recipe, CELL_LABELS, print_losses)
    backbone.save(chosen.out)
    pointers.save(chosen.out)
    scores = {name: score(backbone, pointers, exam(name, chosen.exam)) for name in EXAMS}
    write_card(chosen.out, vars(chosen) | {"drawing_s": drawing, "training_s": training}, scores)


if __name__ == "__main__":
    main()
