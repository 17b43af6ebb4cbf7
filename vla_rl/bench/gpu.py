"""What only a GPU can show, in parts of at most two minutes: `bash scripts/gpu.sh` runs them all.

Where there is no CUDA device, or with `--small`, the same is done with small backbones and few steps, to know that it
works.

    python -m vla_rl.bench.gpu acting outputs/gpu     # one part; writes outputs/gpu/acting.json
    python -m vla_rl.bench.gpu table outputs/gpu      # all that there is, as a table in Markdown
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla_rl import build, config
from vla_rl.algorithms.configs import PaRl
from vla_rl.algorithms.pa_rl import PaRlAlgorithm
from vla_rl.autotune.feature_cache import any_observation
from vla_rl.autotune.timing import interleaved, wait
from vla_rl.bench.learner import fill_with_noise
from vla_rl.bench.smoke import fill, learner_share
from vla_rl.config import RunConfig
from vla_rl.config.policy import HeadSettings, PolicySettings
from vla_rl.data.record import record
from vla_rl.envs import EnvSpec
from vla_rl.models.policy import Policy
from vla_rl.models.samples import Sample
from vla_rl.models.settings import Tiny
from vla_rl.models.sizes import Qwen25VL3B, SmolVLM256M
from vla_rl.paths import METRICS_FILE
from vla_rl.planning.command import make_plan
from vla_rl.planning.rows import instruction
from vla_rl.rollout.actor import Actor
from vla_rl.runtime.hardware import DTYPES
from vla_rl.runtime.learner import Learner
from vla_rl.sft import sft
from vla_rl.specs import STATE
from vla_rl.train import train

GIB = 2**30
NOT_YET = "not yet measured"
Found = dict[str, Any]


@dataclass(frozen=True)
class How:
    """small: with small backbones and few steps. folder: where runs are written."""

    small: bool
    folder: Path

    @property
    def device(self) -> torch.device:
        """Where it is measured."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def reach(how: How) -> Found:
    """Reach end to end: demonstrations, a supervised start, and reinforcement learning from there."""
    steps = 256 if how.small else 8000
    few = ["demos.episodes=2", "sft.steps=20", "train.learning_starts=64", "train.num_envs=4", "train.workers=0"]
    common = [
        "experiment=reach",
        "seed=1",
        "tracker=null",
        f"demos.path={how.folder}/demos",
        *(few if how.small else []),
    ]
    began = time.perf_counter()
    record(config.load(common, command="demos"))
    start = sft(config.load([*common, f"run_dir={how.folder}/sft"], command="sft"))
    shown = time.perf_counter()
    every = [f"train.steps={steps}", "train.eval_every=0", "train.save_every=0", f"train.log_every={steps // 4}"]
    train(config.load([*common, *every, f"train.checkpoint={start}", f"run_dir={how.folder}/rl"], command="train"))
    took = time.perf_counter() - shown
    lines = [json.loads(line) for line in (how.folder / "rl" / METRICS_FILE).read_text().splitlines()]
    last = next(line for line in reversed(lines) if "time/act" in line)
    shares = {f"share_{part}": last.get(f"time/{part}", 0.0) for part in ("act", "learn", "step")}
    return {"seconds_to_start": shown - began, "loop_decisions_per_s": steps / took, "decisions": steps, **shares}


def acting(how: How) -> Found:
    """Greedy decisions a second from pictures with `tiny`, as they are and by CUDA graphs, at batches 1 and 16."""
    _, spec = _reach()
    policy = _policy(Tiny(), spec).to(how.device)
    found: Found = {}
    for rows in (1, 16):
        seen = any_observation(policy, spec.observation, rows)
        plain, graphed = Actor(policy), Actor(policy, cuda_graphs=True)
        for _ in range(6):
            same = np.array_equal(plain(seen)[0], graphed(seen)[0])
        works: list[Callable[[], Any]] = [partial(plain, seen), partial(graphed, seen)]
        times = np.median(interleaved(works, how.device, [5 if how.small else 100] * 2), 0)
        found |= {f"decisions_per_s_b{rows}": rows / times[0], f"same_decisions_b{rows}": bool(same)}
        found |= {f"graphed_decisions_per_s_b{rows}": rows / times[1]} if how.device.type == "cuda" else {}
    return found


def updates(how: How) -> Found:
    """Updates a second of Reach's quick-start, as they are and by CUDA graphs, and `learner_share`; see `smoke`."""
    run, spec = _reach()
    found: Found = {}
    for name, graphs in (("", False), ("graphed_", True)):
        if graphs and how.device.type == "cpu":
            continue
        policy = build.fresh_policy(run, spec)
        algorithm = run.algorithm.build(policy=policy, learner=Learner(str(how.device.type), cuda_graphs=graphs))
        replay = build.replay(run, spec, policy, capacity=1024, lanes=1)
        fill(run, spec, algorithm, replay, steps=128 if how.small else 512)
        batch = replay.sample(algorithm.settings.batch_size, np.random.default_rng(0), finished_only=True, images=False)
        algorithm.updates = algorithm.settings.warmup_updates
        for _ in range(8 if how.small else 64):
            algorithm.update(batch)
        rate = 1 / float(np.median(interleaved([partial(algorithm.update, batch)], how.device, [16], rounds=3)))
        share = learner_share(algorithm, replay, repeats=2 if how.small else 16)
        found |= {f"{name}updates_per_s": rate, f"{name}learner_share": share}
    return found


def lora(how: How) -> Found:
    """Updates a second with adapters in a backbone of SmolVLM-256M's shape, and the memory that they take."""
    backbone = Sample("idefics3") if how.small else SmolVLM256M(512)
    settings = ["policy=smolvlm", "policy.backbone={type: 'vla_rl.models.sizes:SmolVLM256M', image_size: 512}"]
    return _adapters(how, backbone, rows=4 if how.small else 32, count=2 if how.small else 10, planned=settings)


def lora_3b(how: How) -> Found:
    """The same of Qwen2.5-VL-3B's shape in bfloat16, where critics read features from the cache: it fits in 80 GB."""
    backbone = Sample("qwen2_5_vl") if how.small else Qwen25VL3B(224, "bfloat16")
    named = "{type: 'vla_rl.models.sizes:Qwen25VL3B', image_size: 224, dtype: bfloat16}"
    settings = ["policy=smolvlm", f"policy.backbone={named}", "mixed_precision=bf16"]
    found = _adapters(how, backbone, rows=2 if how.small else 8, count=1, planned=settings, precision="bf16")
    return found | ({"fits_in_80_gb": found["peak_gib"] * GIB < 80e9} if "peak_gib" in found else {})


def parity(how: How) -> Found:
    """How decisions and losses in bfloat16 differ from those in float32, without TF32, on the same rows."""
    backbone = Sample("idefics3") if how.small else SmolVLM256M(64)
    _, spec = _reach()
    rows = 4 if how.small else 64
    Learner(str(how.device.type), tf32=False)
    torch.manual_seed(0)
    policy = _policy(backbone, spec).to(how.device)
    seen = any_observation(policy, spec.observation, rows) | {
        STATE: np.random.default_rng(1).normal(size=(rows, spec.observation.state)).astype(np.float32)
    }
    labels = torch.zeros(rows, len(policy.slots), dtype=torch.int64, device=how.device)
    told = {}
    for name in ("no", "bf16"):
        policy.mixed_precision = DTYPES[name]
        with torch.no_grad():
            features = policy.encode(seen)
            logits = policy.logits(features)
            told[name] = policy.greedy(logits), policy.imitation_loss(logits, labels).mean(), features.places
    (full, loss, places), (half, half_loss, half_places) = told["no"], told["bf16"]
    return {
        "same_tokens": float((full == half).float().mean()),
        "loss": float(loss),
        "loss_off": abs(float(half_loss - loss)),
        "places_off": float((places - half_places).abs().median()),  # pointers of random weights jump now and then
    }


PARTS: dict[str, Callable[[How], Found]] = {
    "reach": reach,
    "acting": acting,
    "updates": updates,
    "lora": lora,
    "lora_3b": lora_3b,
    "parity": parity,
}
SHOWN = (
    ("acting", "decisions_per_s_b1", "`tiny`, batch 1: decisions/s as they are", "{:,.0f}"),
    ("acting", "graphed_decisions_per_s_b1", "by CUDA graphs (wanted: 1,000)", "{:,.0f}"),
    ("acting", "graphed_decisions_per_s_b16", "batch 16, by CUDA graphs", "{:,.0f}"),
    ("updates", "updates_per_s", "Reach: updates/s as they are", "{:,.0f}"),
    ("updates", "graphed_updates_per_s", "by CUDA graphs", "{:,.0f}"),
    ("updates", "graphed_learner_share", "`learner_share` by CUDA graphs (wanted: 0.9)", "{:.2f}"),
    ("reach", "loop_decisions_per_s", "Reach end to end: decisions/s while it learns", "{:,.0f}"),
    ("lora", "updates_per_s", "LoRA, SmolVLM-256M's shape, 512 pixels: updates/s", "{:.2f}"),
    ("lora", "peak_gib", "peak of the GPU's memory, GiB", "{:.1f}"),
    ("lora", "plan_gib", "`vla-rl plan` says, GiB", "{:.1f}"),
    ("lora_3b", "seconds_a_step", "LoRA, 3B shape, cached features: seconds of one update", "{:.2f}"),
    ("lora_3b", "peak_gib", "peak of the GPU's memory, GiB (80 GB are 74.5)", "{:.1f}"),
    ("lora_3b", "plan_gib", "`vla-rl plan` says, GiB", "{:.1f}"),
    ("parity", "same_tokens", "bfloat16 against float32: share of the same tokens", "{:.3f}"),
    ("parity", "loss_off", "difference of the loss", "{:.1g}"),
    ("parity", "places_off", "median difference of a place, in half images", "{:.2g}"),
)
"""Of which part which number is shown, as what, and how."""


def table(folder: Path) -> str:
    """What the parts have found, as a table in Markdown; of a part that has not been run on a GPU, that it was not."""
    found = {part: _read(folder / f"{part}.json") for part in PARTS}
    rows = ["| measured | number |", "|---|---|"]
    for part, key, name, shown in SHOWN:
        value = found[part].get(key) if found[part].get("device_type") == "cuda" else None
        none = "-" if found[part].get("device_type") == "cuda" else NOT_YET
        rows.append(f"| {name} | {none if value is None else shown.format(value)} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a part, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "table"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true", help="with small backbones; always so without a CUDA device")
    options = parser.parse_args(arguments)
    if options.part == "table":
        print(table(options.folder))
        return
    how = How(options.small or not torch.cuda.is_available(), options.folder / options.part)
    how.folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with redirect_stdout(sys.stderr):
        found = PARTS[options.part](how)
    name = torch.cuda.get_device_name() if how.device.type == "cuda" else "CPU"
    about = {"part": options.part, "device": name, "device_type": how.device.type, "small": how.small}
    told = about | found | {"seconds": time.perf_counter() - began, "torch": torch.__version__}
    (options.folder / f"{options.part}.json").write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told))


def _read(file: Path) -> Found:
    return json.loads(file.read_text()) if file.is_file() else {}


def _reach() -> tuple[RunConfig, EnvSpec]:
    run = config.load(["experiment=reach"], command="bench")
    return run, build.env_spec(run)


def _policy(backbone: Any, spec: EnvSpec, **settings: Any) -> Policy:
    wanted = PolicySettings(backbone, **settings)
    return Policy.build(wanted, spec.tokens, spec.observation.images, spec.observation.state, seed=0)


def _adapters(how: How, backbone: Any, rows: int, count: int, planned: Sequence[str], precision: str = "no") -> Found:
    """Updates of head, adapters and critic on rows whose frozen features are in replay."""
    run, spec = _reach()
    cuda = how.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    head = HeadSettings(reads=("pointers", "tokens"))
    policy = _policy(backbone, spec, head=head, train="lora")
    settings = PaRl(batch_size=rows, actor_batch_size=rows, critic_updates=1, warmup_updates=0)
    algorithm = PaRlAlgorithm(settings, policy, Learner(str(how.device.type), precision))
    replay = build.replay(run, spec, policy, capacity=64, lanes=1, cached=True)
    fill_with_noise([replay], spec, policy)
    rng = np.random.default_rng(0)
    algorithm.update(replay.sample(rows, rng))  # what is set up at the first one is not counted
    wait(how.device)
    began = time.perf_counter()
    for _ in range(count):
        algorithm.update(replay.sample(rows, rng))
    wait(how.device)
    took = (time.perf_counter() - began) / count
    found: Found = {"updates_per_s": 1 / took, "seconds_a_step": took, "batch_rows": rows}
    sizes = [f"algorithm.batch_size={rows}", f"algorithm.actor_batch_size={rows}", "replay.cache=always"]
    if cuda:
        found["peak_gib"] = torch.cuda.max_memory_reserved() / GIB
    wanted = ["experiment=reach", *planned, "policy.train=lora", *sizes]
    found["plan_gib"] = None if how.small else plan_gib(wanted, how.device)
    return found | {"parameters": sum(p.numel() for p in policy.parameters())}


def plan_gib(settings: Sequence[str], device: torch.device) -> float:
    """What `vla-rl plan` says that a run takes where it learns."""
    run = config.load(settings, command="train")
    own = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    return make_plan(run, build.env_spec(run), instruction(run), own).on_device / GIB


if __name__ == "__main__":
    main()
