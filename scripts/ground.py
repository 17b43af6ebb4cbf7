"""Train the pointers of any backbone, a local folder or a hub id, on the generated pictures, and score them.

    .venv/bin/python scripts/ground.py HuggingFaceTB/SmolVLM-256M-Instruct --out outputs/smolvlm --image-size 512
    .venv/bin/python scripts/ground.py my/backbone --out outputs/mine --trainable all --learning-rate 1e-4

The backbone stays as it is, and only `pointers.safetensors` is learned, unless --trainable all; with --trainable tokens
the rows of `<ptr>` and `<self>`, which no model comes with, are learned too, at the cost of a backward pass; with
--trainable connector also what turns image features into the language model's tokens. --half has a language model that
stays frozen compute in bfloat16, which is several times as fast on many processors.
"""

from __future__ import annotations

import argparse

import torch

from sims.grounding.exams import EXAMS, exam
from sims.grounding.picture import Split
from sims.grounding.samples import batches, draw
from vla_rl.grounding.pretrain import Recipe, ground, print_losses
from vla_rl.grounding.scores import score_pointing, write_card
from vla_rl.models.backbone import Backbone
from vla_rl.models.pointers import Pointers


def main(given: list[str] | None = None) -> None:
    """Parse the command line, or what is given in its place, and ground the backbone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", help="a folder or a hub id")
    parser.add_argument("--out", required=True)
    parser.add_argument("--image-size", type=int, default=None)
    parser.add_argument("--tiles", type=int, default=None, help="along a side of an image, each seen as a picture")
    parser.add_argument("--prompt", choices=("plain", "chat"), default=None)
    parser.add_argument("--trainable", choices=("pointers", "tokens", "connector", "all"), default="pointers")
    parser.add_argument("--half", action="store_true", help="a frozen language model computes in bfloat16")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tables", type=int, default=20_000)
    parser.add_argument("--screens", type=int, default=10_000)
    parser.add_argument("--exam", type=int, default=200, help="pictures in each exam; 0: none is held")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(given)
    torch.manual_seed(chosen.seed)
    backbone = Backbone.load(chosen.backbone, chosen.image_size, prompt_style=chosen.prompt, tiles=chosen.tiles)
    backbone = backbone.to("cuda" if torch.cuda.is_available() else "cpu")
    pointers = Pointers.load(chosen.backbone, backbone.hidden_size).to(backbone.device)
    counts = {"table": chosen.tables, "screen": chosen.screens}
    pictures = [p for kind, count in counts.items() for p in draw(kind, Split(), chosen.seed, count)]
    recipe = Recipe(chosen.steps, chosen.learning_rate, trainable=chosen.trainable, half=chosen.half)
    stream = batches(pictures, chosen.batch, chosen.steps, chosen.seed)
    seconds = ground(backbone, pointers, stream, recipe, report=print_losses)
    backbone.save(chosen.out)
    pointers.save(chosen.out)
    exams = EXAMS if chosen.exam else ()
    scores = {name: score_pointing(backbone, pointers, exam(name, chosen.exam)["point"]) for name in exams}
    write_card(chosen.out, vars(chosen) | {"training_s": seconds}, scores)


if __name__ == "__main__":
    main()
