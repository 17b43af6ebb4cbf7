"""How well a linear probe reads a tool's price, and what it does, from what a policy is given of the desk's text.

`python scripts/read_tools.py [--episodes 500]`: accuracy on a quarter of the tools held back, and on unseen ones.
Chance is one in five prices, one in four kinds.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium
import numpy as np

import sims  # noqa: F401  (registers the environments)
from sims.gui.offers import HELD_OUT_TOOLS
from vla_rl import build, config
from vla_rl.envs import batched
from vla_rl.envs.history import joined
from vla_rl.models.clauses import EXTRA
from vla_rl.models.policy import Policy
from vla_rl.specs import TASK, words_of

OVERRIDES = ["experiment=gui", "env=gui_desk", "policy.head.reads=[pointers,words,clauses]", "policy.head.words=80"]
BATCH = 50


def gathered(
    policy: Policy, split: str, episodes: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Of each tool of some episodes what is read, by name; its price, its kind, and whether training never shows it."""
    env: Any = gymnasium.make("vla_rl/GuiDesk-v0", split=split).unwrapped
    seen, tools = [], []
    for seed in range(episodes):
        seen.append(batched(env.reset(seed=seed)[0]))
        tools.append(env.goal.facts["tools"])
    rows: dict[str, list[np.ndarray]] = {
        name: [] for name in ("pointers and state", "name", "clause's states", "clause")
    }
    told = []
    for begin in range(0, episodes, BATCH):
        part = joined(seen[begin : begin + BATCH])
        features = policy.ground(part)
        readout, worded = policy.readout.raw(features).numpy(), features.worded.numpy()
        width = worded.shape[-1] - EXTRA - policy.trunk.backbone.hidden_size
        for row, text in enumerate(part[TASK]):
            for tool in tools[begin + row]:
                start = text.index(f"{tool['name']}: ")
                end = text.find(";", start) % (len(text) + 1)
                words = worded[row, [i for i, (a, _) in enumerate(words_of(text)) if start <= a < end]]
                found = readout[row], words[0, :width], words[:, :width].mean(0), words[0, width:]
                for name, each in zip(rows, found, strict=True):
                    rows[name].append(each)
                told.append((tool["price"], tool["kind"], tool["name"] in HELD_OUT_TOOLS))
    prices, kinds, unseen = (np.array(each) for each in zip(*told, strict=True))
    return {name: np.array(each) for name, each in rows.items()}, prices, kinds, unseen


def accuracy(x: np.ndarray, y: np.ndarray, other_x: np.ndarray, other_y: np.ndarray) -> float:
    """Of ridge regression on the classes, on other rows."""
    mean, spread, classes = x.mean(0), x.std(0) + 1e-3, np.unique(y)
    scaled, others = (np.c_[(each - mean) / spread, np.ones(len(each))] for each in (x, other_x))
    fitted = np.linalg.solve(scaled.T @ scaled + np.eye(scaled.shape[1]), scaled.T @ (y[:, None] == classes))
    return float((classes[(others @ fitted).argmax(1)] == other_y).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=500)
    episodes = parser.parse_args().episodes
    run = config.load(OVERRIDES, command="sft")
    policy = build.fresh_policy(run, build.env_spec(run))
    rows, *told, _ = gathered(policy, "train", episodes)
    others, *other_told, unseen = gathered(policy, "tools", episodes // 2)
    part = 3 * len(told[0]) // 4
    print(f"{'':20}" + "".join(f"{each:>15}" for each in ("price", "kind", "unseen: price", "unseen: kind")))
    for name, x in rows.items():
        held = [accuracy(x[:part], y[:part], x[part:], y[part:]) for y in told]
        new = [accuracy(x, y, others[name][unseen], z[unseen]) for y, z in zip(told, other_told, strict=True)]
        print(f"{name:20}" + "".join(f"{100 * each:14.0f}%" for each in (*held, *new)))


if __name__ == "__main__":
    main()
