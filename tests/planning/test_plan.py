"""What a plan says is what updates then take: by torch's own count of what its allocator gives out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vla_rl import build, cli, config
from vla_rl.bench.memory import measure_updates
from vla_rl.models.backbone import Backbone
from vla_rl.planning.command import CUDA, GIB, make_plan
from vla_rl.planning.dry_run import dry_run
from vla_rl.planning.learning import DryRun, Learning
from vla_rl.planning.rows import instruction
from vla_rl.sft import sft

WITHIN, SMALL = 0.15, 2**18
"""How far off a plan may be, as a share, and in bytes: what kernels use inside is much of what is small."""
LITTLE = "replay.ram_bytes=2720000"
"""Less than all frames take raw; what features take of it is never coded."""
TOKENS = "policy.head.reads=[pointers,tokens]"
TINY = ("policy=tiny", "policy.backbone={type: tiny}")
SIZES = "plugins=[vla_rl.models.sizes]"
SMOLVLM = (SIZES, "policy=smolvlm", "policy.backbone={type: vla_rl.models.sizes:SmolVLM256M, image_size: 64}")


@pytest.fixture
def loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> Any:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(Backbone, "load", load)


def planned(overrides: list[str], cached: bool = False) -> tuple[config.RunConfig, Learning]:
    run = config.load(overrides, command="train")
    return run, DryRun(run, build.env_spec(run), instruction(run), cached, copies=False).train()


def assert_close(plan: Learning, real: Learning) -> None:
    assert plan.weights == pytest.approx(real.weights, rel=1e-3)
    assert plan.gradients == real.gradients
    assert plan.optimizer == pytest.approx(real.optimizer, rel=WITHIN)
    assert plan.activations == pytest.approx(real.activations, rel=WITHIN, abs=SMALL)
    assert plan.total == pytest.approx(real.total, rel=WITHIN)


@pytest.mark.parametrize(
    "settings",
    [
        ("policy.train=head", "replay.cache=always"),
        ("policy.train=head", TOKENS),
        ("policy.train=lora", TOKENS, "gradient_checkpointing=true", "policy.backbone.image_size=96"),
        ("policy.train=all", "mixed_precision=bf16", "micro_batch_size=6"),
        ("policy.train=all", "algorithm.shift=2", "replay.stack=2"),
    ],
    ids=" ".join,
)
def test_the_tiny_backbone_takes_what_the_plan_says(settings: tuple[str, ...], line: list[str]) -> None:
    cached = "replay.cache=always" in settings
    run, plan = planned([*line, *TINY, "train.num_envs=4", "eval.num_envs=4", *settings], cached)
    assert_close(plan, measure_updates(run, cached))


@pytest.mark.parametrize("algorithm", ["awac", "filtered_bc", "iql", "pa_rl", "recap"])
def test_every_algorithm_can_be_planned(algorithm: str, line: list[str]) -> None:
    own = [each for each in line if not each.startswith("algorithm.") or "demo_share" in each]
    run, plan = planned([*own, f"algorithm={algorithm}", "algorithm.batch_size=16", TOKENS, "policy.train=lora"])
    assert_close(plan, measure_updates(run))


def test_smolvlm_takes_what_the_plan_says(line: list[str]) -> None:
    small = ["algorithm.batch_size=2", "algorithm.actor_batch_size=2", "train.num_envs=2", "eval.num_envs=2"]
    run, plan = planned([*line, *SMOLVLM, *small])
    assert plan.weights > 4 * 228e6
    assert_close(plan, measure_updates(run))


@pytest.mark.slow
def test_smolvlm_takes_it_if_all_of_it_trains(line: list[str]) -> None:
    small = ["algorithm.batch_size=2", "algorithm.actor_batch_size=2", "train.num_envs=2", "eval.num_envs=2"]
    settings = ["policy.train=all", "mixed_precision=bf16", "gradient_checkpointing=true"]
    run, plan = planned([*line, *SMOLVLM, *small, *settings])
    assert_close(plan, measure_updates(run))


@pytest.mark.parametrize("limits", [[], [LITTLE], [LITTLE, "replay.disk_bytes=2MB"]])
def test_replay_takes_what_the_plan_says(limits: list[str], line: list[str], tmp_path: Path) -> None:
    run = config.load([*line, "replay.capacity=400", "replay.cache=always", TOKENS, *limits], command="train")
    spec = build.env_spec(run)
    plan = make_plan(run, spec, instruction(run), None)
    policy = build.fresh_policy(run, spec)
    replay = build.replay(run, spec, policy, run.replay.capacity, run.train.num_envs, tmp_path / "replay")
    assert plan.cached
    assert plan.replay == replay.plan()
    assert plan.feature_row == replay.plan()["feature_bytes"]
    if not limits:
        assert plan.replay["bytes"] == pytest.approx(replay.nbytes, rel=WITHIN)


def test_a_run_from_a_checkpoint_is_planned_without_its_weights(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = sft(config.load([*line, "sft.steps=0", f"run_dir={tmp_path}/start"], command="sft"))
    settings = [f"train.checkpoint={start}", "algorithm.kl_weight=0.1"]
    plans = []
    for train in ("lora", "all"):
        run, plan = planned([*line, *settings, f"policy.train={train}", "run_dir=null"])
        assert_close(plan, measure_updates(run))
        plans.append(plan)
    alone = planned([*line, *settings, "algorithm.kl_weight=0", "policy.train=lora"])[1]
    heads = sum(each.numel() * 4 for each in build.fresh_policy(run, build.env_spec(run)).head.parameters())
    assert plans[0].weights - alone.weights < 3 * heads  # a head and adapters, and no second backbone


def test_what_does_not_fit_is_made_to_fit_by_the_advice(
    line: list[str], capsys: pytest.CaptureFixture[str], loads_nothing: None
) -> None:
    small = ["sft.batch_size=16", "train.num_envs=4", "eval.num_envs=4"]
    overrides = [*line, *TINY, "policy.train=lora", *small]
    _, plan = planned(overrides)
    states = plan.weights + plan.optimizer + plan.gradients
    gpu = (CUDA + states + 0.5 * plan.activations) / GIB

    def told(*more: str) -> tuple[int, dict[str, Any]]:
        code = cli.main(["plan", *overrides, *more, "--gpu", str(gpu), "--json"])
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    code, found = told()
    assert (code, found["fits"]) == (1, False)
    assert list(found["wrong"]) == ["the GPU's memory"]
    assert found["advice"][0] == "gradient_checkpointing=true"
    code, found = told(*found["advice"])
    assert (code, found["fits"]) == (0, True)
    assert cli.main(["plan", *overrides, "device=cpu"]) == 0
    said = capsys.readouterr().out
    assert "on the CPU" in said
    assert said.endswith("it fits\n")


@pytest.mark.slow
def test_a_model_of_billions_is_planned_for_80_gb(line: list[str], loads_nothing: None) -> None:
    shape = "policy.backbone={type: vla_rl.models.sizes:Qwen25VL3B, dtype: bfloat16}"
    run = config.load([*line, SIZES, "policy=smolvlm", shape, "gradient_checkpointing=true"], command="train")
    plan = make_plan(run, build.env_spec(run), instruction(run), 80 * GIB)
    assert plan.train.weights == pytest.approx(2 * 3.75e9, rel=0.05)
    assert not plan.wrong
    parts = {"train": "all", "backbone": {**run.policy.backbone, "dtype": "float32"}}
    whole = run.model_copy(update={"policy": run.policy.model_copy(update=parts)})
    states = make_plan(whole, build.env_spec(run), instruction(run), 80 * GIB).train
    each = 4 + 4 + 8 + 4  # bytes: a weight, its frozen copy that critics see by, Adam's two states, its gradient
    assert states.weights + states.optimizer + states.gradients == pytest.approx(each * 3.75e9, rel=0.05)


def test_what_is_known_stays_known_in_a_dry_run() -> None:
    with dry_run() as ledger:
        floats = ledger.empty((8, 4), torch.float32)
        ledger.note(floats)
        ids = torch.arange(8)
        assert ids.tolist() == list(range(8))
        before = ledger.now
        assert before == 8 * 4 * 4 + 8 * 8
        picked = floats[ids > 5]
        assert picked.shape == (2, 4)
        assert ledger.now == before + 2 * 4 * 4
        del picked
        assert ledger.now == before
        assert ledger.peak >= before + 2 * 4 * 4
        assert float(floats.sum()) == 1
        assert bool((floats > 0).all())


def test_a_plan_has_a_total() -> None:
    assert Learning(1, 2, 3, 4).total == 10
    assert dataclasses.asdict(Learning(1, 2, 3, 4))["activations"] == 4
