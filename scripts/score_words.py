"""Score backbones on words that no training text has, and on the exams of docs/backbone.md, and time them.

    .venv/bin/python -m scripts.score_words tiny smollm --count 200
    .venv/bin/python -m scripts.score_words smollm --exams "table, front camera" screen --dtype bfloat16

A backbone is `tiny`, `smollm`, or a folder with pointers. Each number is the share of the things mentioned whose place
is right (`grounding.scores.HIT`). The time is processor time for a row (one picture of 64 pixels and one text) of 16.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from sims.grounding.exams import EXAMS, exam
from sims.grounding.paraphrases import EXAMS as WORDS
from sims.grounding.paraphrases import paraphrases
from vla_rl.grounding.pretrain import Batch, encode
from vla_rl.grounding.scores import score_pointing
from vla_rl.models.backbone import Backbone
from vla_rl.models.pointers import Pointers
from vla_rl.models.settings import SmolLM, Tiny

ROWS, TIMES = 16, 5


def main(given: list[str] | None = None) -> None:
    """Parse the command line, or what is given in its place, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="+", help="tiny, smollm, or a folder")
    parser.add_argument("--exams", nargs="*", default=[], choices=EXAMS, metavar="NAME", help="further exams")
    parser.add_argument("--count", type=int, default=200, help="pictures in each exam")
    parser.add_argument("--seed", type=int, default=0, help="of the pictures")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--trained", help="folder of scripts/make_smollm.py, instead of the one that ships")
    chosen = parser.parse_args(given)
    torch.set_num_threads(1)
    loaded = {name: _load(name, chosen.trained, chosen.dtype) for name in chosen.backbones}
    eyes = {name: (each, Pointers.load(str(each.source), each.hidden_size)) for name, each in loaded.items()}
    print(f"| exam | rows | {' | '.join(eyes)} |\n|---|---|{'---|' * len(eyes)}")
    for name in (*WORDS, *chosen.exams):
        paper = (
            paraphrases(name, chosen.count, chosen.seed)
            if name in WORDS
            else exam(name, chosen.count, chosen.seed)["point"]
        )
        side = paper[0]["images"].shape[1]
        found = [score_pointing(each.at(side), pointers, paper)["hit"] for each, pointers in eyes.values()]
        rows = sum(len(batch["texts"]) for batch in paper)
        print(f"| {name} | {rows} | " + " | ".join(f"{hit:.2f}" for hit in found) + " |", flush=True)
    paper = paraphrases("known words", 4 * ROWS, chosen.seed)
    print("| ms a row | | " + " | ".join(f"{_milliseconds(each, paper[0]):.1f}" for each, _ in eyes.values()) + " |")


def _load(name: str, trained: str | None, dtype: str) -> Backbone:
    if name == "smollm":
        return SmolLM(dtype=dtype, trained=trained).load()  # type: ignore[arg-type]
    return Tiny().load() if name == "tiny" else Backbone.load(name, dtype=dtype)


@torch.inference_mode()
def _milliseconds(backbone: Backbone, batch: Batch) -> float:
    """Median processor time for a row."""
    images, texts = batch["images"][:ROWS], batch["texts"][:ROWS]
    found = []
    for _ in range(TIMES):
        start = time.process_time()
        encode(backbone, images, backbone.prompt(texts))
        found.append((time.process_time() - start) / len(texts))
    return 1000 * statistics.median(found)


if __name__ == "__main__":
    main()
