"""From a few demonstrations to a policy that succeeds: the commands that a person would type, one after another.

Every command is a process of its own; this file names folders, and reads the results into one table and report.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from vla_rl import config
from vla_rl.eval import evaluate_checkpoint
from vla_rl.evaluation.critic_health import CriticHealth
from vla_rl.evaluation.outcome import EvalResult, percent, wilson
from vla_rl.report.report import Score, read_score


def vla_rl(command: str, *overrides: str) -> None:
    """Run one command; its failure is ours."""
    print(f"\n$ vla-rl {command} {' '.join(overrides)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "vla_rl.cli", command, *overrides], check=False).returncode
    if code:
        raise SystemExit(code)


def env_steps(metrics: Path) -> int:
    """How many decisions the training took."""
    return int(json.loads(metrics.read_text().splitlines()[-1])["step"])


def write_result(folder: Path, scores: dict[str, EvalResult | Score], **rest: Any) -> None:
    """`result.json`: each policy's success in percent with its 95% interval, and the rest."""
    result: dict[str, Any] = {}
    for name, score in scores.items():
        successes, episodes = score.successes, len(score.valid) if isinstance(score, EvalResult) else score.episodes
        result[f"{name}_pc_success"] = percent(successes, episodes)
        result[f"{name}_ci95"] = list(wilson(successes, episodes))
    (folder / "result.json").write_text(json.dumps(result | rest, indent=2) + "\n")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("task", choices=["reach", "push", "gui", "gui_long"], help="whose recipe")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--setup-seconds", type=float, default=0.0)
    arguments.add_argument("--out", type=Path, default=None, help="default: outputs/quickstart")
    arguments.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as env=pick demos.episodes=50")
    options = arguments.parse_intermixed_args()

    out: Path = options.out or Path("outputs/quickstart")
    shutil.rmtree(out, ignore_errors=True)
    common = (f"experiment={options.task}", f"seed={options.seed}", f"demos.path={out}/demos", *options.overrides)
    sft, rl = out / "sft", out / "rl"
    start = time.monotonic()
    vla_rl("demos", *common, f"demos.seed={1000 * options.seed}")
    vla_rl("sft", *common, f"run_dir={sft}")
    vla_rl("eval", *common, f"eval.checkpoint={sft}/checkpoints/last", f"run_dir={out}/eval_sft")
    vla_rl("train", *common, f"train.checkpoint={sft}/checkpoints/last", f"run_dir={rl}")
    best_of = (*common, f"eval.checkpoint={rl}/checkpoints/last", f"run_dir={out}/eval_best_of", "eval.best_of=16")
    vla_rl("eval", *best_of, "eval.videos=0")

    greedy = (*common, f"eval.checkpoint={rl}/checkpoints/last", f"run_dir={out}/eval_rl")
    run = config.load(greedy, command="eval")
    before = read_score(out / "eval_sft", "supervised start", "greedy")
    sampled = read_score(out / "eval_best_of", "after reinforcement learning", "best of 16 by Q")
    after = evaluate_checkpoint(run, "after reinforcement learning", before=(before, sampled))
    write_result(
        out,
        {"sft": before, "rl": after, "rl_best_of_16": sampled},
        env_steps=env_steps(rl / "metrics.jsonl"),
        demos=run.demos.episodes,
        seed=options.seed,
        train_minutes=(time.monotonic() - start) / 60,
        setup_minutes=options.setup_seconds / 60,
    )
    acted, greedily = (sampled.successes, sampled.episodes), (after.successes, len(after.valid))
    print(CriticHealth.between(acted, greedily, best_of=16).said)
    print(f"result: {out}/result.json")


if __name__ == "__main__":
    main()
