"""Disturb a training at random, by a seed, and prove from a ledger that nothing was lost or counted twice.

    python scripts/chaos.py --minutes 20 --seed 0
    python scripts/chaos.py --minutes 20 --seed 0 --env click_test_2

A run is trained while it, its workers and its browsers are killed and stopped, its environments raise errors, show NaN
and hang, its disk fills up, and its files are damaged between two lives. Every step that an environment takes is
written to a ledger outside the run, against which each checkpoint is held. In the end the run comes to its last step,
and so does an undisturbed one of the same settings; both are evaluated on the same held-out seeds.

Exit code 0 where nothing is wrong. OUT/chaos.json has everything, OUT/life-*.log what each life said. Needs Linux; as
root the run gets a disk of its own that can fill up.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chaos.campaign import WORKERS, Campaign, Fault
from chaos.ledger import COLUMN
from chaos.life import Life, adopt_orphans

from vla_rl.evaluation.eval_info import INFO_FILE
from vla_rl.evaluation.outcome import wilson

PLUGINS = "plugins=[chaos.world]"
KINDS, FAULTS = 10, 60
"""What a campaign of 20 minutes must have seen at least."""


@dataclass(frozen=True)
class Setting:
    """What is trained. overrides: of its recipe. steps: of the whole run."""

    env_id: str
    overrides: tuple[str, ...]
    steps: int
    browsers: bool = False


PAGE = ("experiment=gui", "env=click_test_2", "train.updates_per_step=0.5", "train.learning_starts=200")
SETTINGS = {
    "reach": Setting("vla_rl/Reach-v0", ("experiment=reach",), 8000),
    "click_test_2": Setting("vla_rl/MiniWoB-click-test-2-v0", PAGE, 1200, browsers=True),
}


def common(setting: Setting, seed: int, out: Path, steps: int) -> list[str]:
    """The settings of the disturbed run and of the undisturbed one."""
    every = max(steps // 20, 40)
    return [
        *setting.overrides,
        f"seed={seed}",
        f"demos.path={out}/demos",
        PLUGINS,
        f"replay.signals=[{{name: {COLUMN}, dtype: int64}}]",
        "replay.capacity=60000",  # nothing is forgotten
        f"train.steps={steps}",
        "train.num_envs=8",
        f"train.workers={WORKERS}",
        "train.step_timeout=20",
        "train.restarts=8",
        f"train.log_every={every}",
        f"train.save_every={every}",
        f"train.eval_every={steps // 4}",
        "train.eval_episodes=16",
    ]


def vla_rl(command: str, log: Path, *overrides: str) -> None:
    """Run one command, undisturbed; its failure is ours."""
    life = Life(log, command, *overrides)
    life.process.join()
    if life.process.exitcode:
        raise SystemExit(f"vla-rl {command} failed\n{life.said()[-2000:]}")


def evaluate(name: str, checkpoint: Path, out: Path, episodes: int) -> tuple[int, int]:
    """Successes, and episodes that count, on held-out seeds."""
    folder = out / f"eval_{name}"
    vla_rl(
        "eval",
        out / f"eval_{name}.log",
        f"eval.checkpoint={checkpoint}",
        f"run_dir={folder}",
        PLUGINS,
        f"eval.episodes={episodes}",
        "eval.videos=0",
        "eval.num_envs=8",
        "eval.workers=2",
    )
    overall = json.loads((folder / INFO_FILE).read_text())["overall"]
    return round(overall["pc_success"] * overall["n_episodes"] / 100), overall["n_episodes"]


def table(faults: list[Fault]) -> str:
    """A line for each kind of fault."""
    kinds: dict[str, list[Fault]] = defaultdict(list)
    for each in faults:
        kinds[each.kind].append(each)
    lines = ["| fault | times | outcome | seconds, at most | wrong |", "|---|---|---|---|---|"]
    for kind, some in sorted(kinds.items()):
        outcomes = Counter(each.outcome for each in some)
        told = ", ".join(
            f"{outcome} ({count})" if len(outcomes) > 1 else outcome for outcome, count in outcomes.items()
        )
        wrong = sum(bool(each.wrong) for each in some)
        lines.append(f"| {kind} | {len(some)} | {told} | {max(each.seconds for each in some):.0f} | {wrong} |")
    return "\n".join(lines)


def verdicts(campaign: Campaign, scores: dict[str, tuple[int, int]], minutes: float) -> dict[str, bool]:
    """What had to hold, and whether it does."""
    record, balance = campaign.record, campaign.accountant.balance
    (calm, of), (disturbed, of_disturbed) = scores["undisturbed"], scores["disturbed"]
    enough = len(record.faults) >= FAULTS and len({each.kind for each in record.faults}) >= KINDS
    return {
        f"at least {FAULTS} faults of at least {KINDS} kinds": enough or minutes < 20,
        "every fault had its expected outcome": not any(each.wrong for each in record.faults),
        "no step lost": balance.lost == 0,
        "no step doubled": balance.doubled == 0,
        "books in order": not balance.problems and not record.problems,
        "no process hung": record.hung == 0,
        "no process left behind": not record.orphans,
        "success not below the undisturbed run's interval": 100 * disturbed / of_disturbed >= wilson(calm, of)[0],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="that the run is disturbed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--env", choices=sorted(SETTINGS), default="reach")
    parser.add_argument(
        "--steps", type=int, default=None, help="of the run, and then as many again until the time is over"
    )
    parser.add_argument("--episodes", type=int, default=100, help="of each evaluation")
    parser.add_argument("--out", type=Path, default=None, help="default: outputs/chaos/ENV")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="further settings of the run")
    given = parser.parse_intermixed_args()
    setting = SETTINGS[given.env]
    out, steps = (given.out or Path("outputs/chaos", given.env)).absolute(), given.steps or setting.steps
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    here = str(Path(__file__).resolve().parent)  # where the plugin lies
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    adopt_orphans()

    overrides = [*common(setting, given.seed, out, steps), *given.overrides]
    vla_rl("demos", out / "demos.log", *overrides)
    vla_rl("sft", out / "sft.log", *overrides, f"run_dir={out}/sft")
    overrides.append(f"train.checkpoint={out}/sft/checkpoints/last")
    began = time.time()
    campaign = Campaign(out, overrides, steps, setting.env_id, given.seed, PLUGINS, setting.browsers)
    try:
        campaign.go(60 * given.minutes)
        disturbed = time.time() - began
        campaign.finish(patience=3600.0)
    finally:
        campaign.close()
    steps = campaign.steps
    vla_rl("train", out / "undisturbed.log", *overrides, f"train.steps={steps}", f"run_dir={out}/undisturbed")
    kept = out / "kept" / "run" if campaign.disk.own else campaign.run
    scores = {
        name: evaluate(name, run / "checkpoints" / "last", out, given.episodes)
        for name, run in (("disturbed", kept), ("undisturbed", out / "undisturbed"))
    }
    found = verdicts(campaign, scores, given.minutes)
    result: dict[str, Any] = {
        "env": given.env,
        "seed": given.seed,
        "steps": steps,
        "minutes": round(disturbed / 60, 1),
        "verdicts": found,
        "success": {
            name: {"successes": some, "of": of, "ci95": wilson(some, of)} for name, (some, of) in scores.items()
        },
        "books": asdict(campaign.accountant.balance),
        **asdict(campaign.record),
    }
    (out / "chaos.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table(campaign.record.faults), json.dumps(result["books"]), json.dumps(result["success"]), sep="\n\n")
    for problem in (*campaign.record.problems, *campaign.accountant.balance.problems, *campaign.record.orphans):
        print(f"problem: {problem}")
    print(*(f"{'pass' if good else 'FAIL'}  {what}" for what, good in found.items()), sep="\n")
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
