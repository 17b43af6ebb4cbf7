"""Make the tiny backbone that ships: draw pictures, train, score, save. docs/backbone.md tells what comes out.

.venv/bin/python -m scripts.pretrain_tiny
.venv/bin/python -m scripts.pretrain_tiny --steps 300 --apart 100 --tables 2000 --screens 1000 --out outputs/try
.venv/bin/python -m scripts.pretrain_tiny --start outputs/a outputs/b --shares 0.7 0.3 --steps 0 --second 4000
"""

import argparse
import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from sims.grounding.exams import EXAMS, exam
from sims.grounding.picture import Picture, Split
from sims.grounding.samples import LABELS, batches, draw, phrasebook
from vla_rl.grounding.pretrain import Recipe, ground, print_losses
from vla_rl.grounding.scores import score, write_card
from vla_rl.models.backbone import Backbone
from vla_rl.models.pointers import Pointers
from vla_rl.models.tiny import SIZE, adopt, average, initialise, tiny_config, tiny_tokenizer

SIDES, TABLE_SIDES = (64, 96, 96, 128), (64, 96, 96)
"""Heights and widths of the screens, and of the tables, each as likely."""
BESIDE, NEIGHBOURS = 0.5, 0.9
"""Of what teaches the second look: pictures of all else for each of a grid, and how often a thing is named by another.
"""
SAVE_EVERY = 1000
"""Steps: what a training that was stopped had learned is there to `--start` another from."""
OPTIONS = {
    "tables": (50_000, "pictures of tables"),
    "screens": (12_000, "pictures of screens"),
    "sketches": (4_000, "sketches of screens"),
    "pages": (4_000, "pictures of pages in a browser"),
    "apart": (5000, "steps that teach vision and text each by itself"),
    "steps": (24_000, "steps in all"),
    "rate": (2e-3, "highest learning rate"),
    "familiar": (0.5, "share of the tables that look like those where policies will act"),
    "twins": (0.3, "share of the things on a table that have the colour of another one"),
    "carried": (0.3, "share of the tables of an arm on which it carries a thing or has put it somewhere"),
    "kits": (0.0, "share of the pictures with things that are used together: a peg and a socket, or a form"),
    "second": (0, "steps after these that teach the second look alone, mostly on grids of buttons"),
    "grids": (12_000, "pictures of such grids"),
    "batch": (32, "texts a step"),
    "seed": (0, "of pictures, texts and weights"),
    "threads": (1, "of PyTorch; the steps are small"),
    "processes": (2, "that draw"),
    "exam": (500, "pictures in each exam"),
    "stem": ("float32", "in which the stem trains; bfloat16 is faster on a CPU that multiplies it"),
}


@contextmanager
def computing_in(module: torch.nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Meanwhile a module computes in another dtype, and gives float32."""
    exactly = module.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
            return exactly(x).float()

    module.forward = forward
    try:
        yield
    finally:
        module.forward = exactly


def main() -> None:
    """Make the backbone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="assets/backbones/tiny")
    parser.add_argument(
        "--start", nargs="+", default=[], metavar="FOLDER", help="whose weights, averaged, to go on from"
    )
    parser.add_argument("--shares", nargs="+", type=float, metavar="SHARE", help="of each of these in it (the same)")
    for name, (value, text) in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"{text} ({value})")
    chosen = parser.parse_args()
    chosen.shares = chosen.shares or [1.0] * len(chosen.start)
    if len(chosen.shares) != len(chosen.start):
        parser.error(f"{len(chosen.start)} folders to start from need as many shares; got {chosen.shares}")
    if chosen.shares and (min(chosen.shares) < 0 or not sum(chosen.shares)):
        parser.error(f"--shares: none below 0, and not all 0; got {chosen.shares}")
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    start = time.perf_counter()
    counts = {"table": chosen.tables, "screen": chosen.screens, "sketch": chosen.sketches, "page": chosen.pages}
    split = Split(
        familiar=chosen.familiar,
        sides=SIDES,
        table_sides=TABLE_SIDES,
        twins=chosen.twins,
        carried=chosen.carried,
        kits=chosen.kits,
    )
    pictures = [p for kind, n in counts.items() for p in draw(kind, split, chosen.seed, n, chosen.processes)]
    drawing = time.perf_counter() - start
    backbone = _backbone(chosen, pictures)
    pointers = _pointers(chosen, backbone.hidden_size)

    def save() -> None:
        backbone.save(chosen.out)
        pointers.save(chosen.out)

    def report(step: int, losses: dict[str, float]) -> None:
        print_losses(step, losses)
        if step % SAVE_EVERY == 0:
            save()

    training, stem = 0.0, backbone.model.model.vision_model.embeddings.patch_embedding
    with computing_in(stem, getattr(torch, chosen.stem)):
        if chosen.steps:
            stream = batches(pictures, chosen.batch, chosen.steps, chosen.seed)
            recipe = Recipe(chosen.steps, chosen.rate, apart_first=chosen.apart, own_sizes=True)
            training += ground(backbone, pointers, stream, recipe, LABELS, report)
        if chosen.second:
            save()  # drawing takes minutes
            grids = draw("screen", replace(split, grids=1.0), chosen.seed, chosen.grids, chosen.processes)
            seen = [*grids, *pictures[:: max(1, round(len(pictures) / (BESIDE * len(grids))))]]
            stream = batches(seen, chosen.batch, chosen.second, chosen.seed, NEIGHBOURS)
            recipe = Recipe(chosen.second, chosen.rate, trainable="second", own_sizes=True)
            training += ground(backbone, pointers, stream, recipe, report=report)
    save()
    scores = {}
    for name in EXAMS:
        paper = exam(name, chosen.exam)
        scores[name] = score(backbone.at(paper["point"][0]["images"].shape[1]), pointers, paper)
    write_card(chosen.out, vars(chosen) | {"drawing_s": drawing, "training_s": training}, scores)


def _backbone(chosen: argparse.Namespace, pictures: list[Picture]) -> Backbone:
    """One that knows the words of the pictures' texts, and what those of `--start` know on average; where no step
    trains it, it knows the words of the first of them."""
    starts = [Backbone.load(folder) for folder in chosen.start]
    kept = starts and not chosen.steps
    tokenizer = starts[0].tokenizer if kept else tiny_tokenizer(phrasebook(pictures, chosen.seed))
    backbone = Backbone.from_config(tiny_config(len(tokenizer)), tokenizer, SIZE)
    if not starts:
        initialise(backbone.model)
        return backbone
    states = []
    for old in starts:
        adopt(backbone.model, tokenizer, old.model, old.tokenizer)
        states.append(copy.deepcopy(backbone.model.state_dict()))  # the next is adopted into the same tensors
    backbone.model.load_state_dict(average(states, chosen.shares))
    return backbone


def _pointers(chosen: argparse.Namespace, hidden_size: int) -> Pointers:
    """Those of `--start`, averaged, or fresh ones; they look twice."""
    starts = [Pointers.load(folder, hidden_size) for folder in chosen.start] or [Pointers(hidden_size)]
    for each in starts:
        each.look_twice()
    if chosen.start:
        starts[0].load_state_dict(average([each.state_dict() for each in starts], chosen.shares))
    return starts[0]


if __name__ == "__main__":
    main()
