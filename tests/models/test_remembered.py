"""What is remembered of an episode: held against a plain loop; the same whoever acts, records, learns or evaluates."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import Random, observation
from gymnasium import spaces

from vla_rl import build, cli, config, train_state
from vla_rl.actions import Binned
from vla_rl.config.policy import HeadSettings, PolicySettings
from vla_rl.data.record import record
from vla_rl.envs import batched
from vla_rl.evaluation.episodes import evaluate
from vla_rl.models.features import Features
from vla_rl.models.pointers import MENTIONS, SLOTS
from vla_rl.models.policy import Policy
from vla_rl.models.remembered import KEPT, RATE, SAME, SURE, before_each, recall, shape, updated
from vla_rl.replay import ReplayBuffer
from vla_rl.rollout.actor import Actor
from vla_rl.runtime.logger import Log
from vla_rl.specs import REMEMBERED, VALIDATION_SEEDS


def pointed(steps: int, rows: int, views: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Places [T, B, V * S, 2] that jump between a few, and confidences [T, B, V * S]."""
    rng = np.random.default_rng(seed)
    homes = rng.uniform(-1, 1, (6, 2))
    places = homes[rng.integers(0, 6, (steps, rows, views * SLOTS))] + rng.normal(
        0, 0.03, (steps, rows, views * SLOTS, 2)
    )
    return torch.from_numpy(places).float(), torch.from_numpy(rng.random(places.shape[:-1])).float()


def plain(places: np.ndarray, confidence: np.ndarray) -> tuple[list[list[float]], list[float]]:
    """One thing's places [T, 2] and confidences [T] -> what is kept of it at the end, and what is recalled."""
    kept = [[0.0, 0.0, 0.0] for _ in range(KEPT)]
    for (x, y), sure in zip(places.tolist(), confidence.tolist(), strict=True):
        if sure <= SURE:
            continue
        gaps = [np.hypot(x - a, y - b) if n else np.inf for a, b, n in kept]
        nearest = int(np.argmin(gaps))
        if gaps[nearest] <= SAME:
            a, b, n = kept[nearest]
            rate = max(sure / (n + sure), RATE)
            kept[nearest] = [a + rate * (x - a), b + rate * (y - b), n + sure]
        else:
            kept[int(np.argmin([n for _, _, n in kept]))] = [x, y, sure]
    x, y, most = max(kept, key=lambda each: each[2])
    return kept, [x, y, most / max(sum(n for _, _, n in kept), 1e-6)]


@pytest.mark.parametrize(("views", "cameras"), [(1, 1), (2, 2), (4, 2)])
def test_it_is_what_a_plain_loop_keeps(views: int, cameras: int) -> None:
    places, confidence = pointed(30, 3, views, seed=views)
    known = torch.zeros(3, *shape(cameras))
    for time in range(len(places)):
        known = updated(known, places[time], confidence[time])
    found, share = recall(known)
    stack = views // cameras
    for row in range(3):
        for camera in range(cameras):
            for thing in range(MENTIONS):
                slot = ((camera + 1) * stack - 1) * SLOTS + thing  # of the newest view
                kept, told = plain(places[:, row, slot].numpy(), confidence[:, row, slot].numpy())
                np.testing.assert_allclose(known[row, camera, thing], kept, atol=1e-5)
                np.testing.assert_allclose([*found[row, camera, thing], share[row, camera, thing]], told, atol=1e-5)


def test_a_thing_is_recalled_while_it_is_dark_and_through_a_twin() -> None:
    here, twin = torch.tensor([0.3, -0.2]), torch.tensor([-0.5, 0.6])
    places = torch.stack([here] * 4 + [twin] * 3 + [twin] * 5).unsqueeze(1).repeat(1, SLOTS, 1)
    confidence = torch.tensor([0.9] * 7 + [0.3] * 5).unsqueeze(1).repeat(1, SLOTS)
    before = before_each(places, confidence, 1)
    assert (before[0] == 0).all()
    for time in range(1, 12):
        found, share = recall(before[time : time + 1])
        torch.testing.assert_close(found, here.expand(1, 1, MENTIONS, 2))
        torch.testing.assert_close(share, torch.full_like(share, min(4 / min(time, 7), 1.0)))


def make(**settings: Any) -> Policy:
    wanted = PolicySettings(Random("idefics3"), HeadSettings(width=32), remembers=True, **settings)
    space = Binned(5).bind(spaces.Box(-1, 1, (3,)))
    policy = Policy.build(wanted, space, ("front",), 3, seed=0).eval()
    with torch.no_grad():
        policy.trunk.pointers.seen[-1].bias.fill_(3.0)  # pointers that are sure
        if policy.frozen is not None:
            policy.frozen.pointers.seen[-1].bias.fill_(3.0)
    return policy


@pytest.mark.parametrize("train", ["head", "all"])
def test_step_by_step_and_at_once_are_the_same(train: str) -> None:
    policy, seen = make(train=train), observation(6)
    whole = policy.ground_episode(seen)
    noted: np.ndarray | None = None
    for time in range(6):
        here = {key: value[time : time + 1] for key, value in seen.items()}
        features = policy.encode(here if noted is None else here | {REMEMBERED: noted})
        assert features.remembered is not None
        torch.testing.assert_close(features.remembered, whole.remembered[time : time + 1], rtol=1e-4, atol=1e-4)
        assert not features.remembered.requires_grad
        noted = features.remembered.numpy()
    assert (whole.remembered[-1, ..., 2].sum(-1) > 1).all()


def test_a_policy_reads_it_and_is_saved_with_it(tmp_path: Path) -> None:
    policy, seen = make(), observation(4)
    first = policy.ground(seen)
    policy.set_normalization(first)
    noted = {REMEMBERED: np.random.default_rng(0).uniform(-1, 1, first.remembered.shape).astype(np.float32) ** 2}
    fresh, knowing = policy.logits(first), policy.logits(policy.ground(seen | noted))
    assert any(not torch.allclose(a, b) for a, b in zip(fresh, knowing, strict=True))
    policy.save_pretrained(tmp_path)
    again = Policy.from_pretrained(tmp_path)
    assert again.settings.remembers
    for a, b in zip(knowing, again.logits(again.ground(seen | noted)), strict=True):
        torch.testing.assert_close(a, b)
    packed = policy.ground(seen | noted).pack()
    assert "remembered" not in packed
    unpacked = Features.unpack(packed, seen | noted)
    torch.testing.assert_close(unpacked.remembered, policy.ground(seen | noted).remembered)


@pytest.fixture
def remembering(line: list[str], tmp_path: Path) -> list[str]:
    own = ["policy.remembers=true", "demos.episodes=3", "algorithm.demo_share=0.25", "policy.precision=float32"]
    record(config.load([*line, *own], command="demos"))
    return [*line, *own]


def check_rows(replay: ReplayBuffer, policy: Policy) -> int:
    """Every episode's rows hold what its earlier rows would have had remembered; how many episodes there were."""
    count = 0
    for ids in replay.episodes():
        seen = replay.observations(ids)
        held = seen.pop(REMEMBERED)
        wanted = policy.ground_episode(seen)
        before = before_each(wanted.places, wanted.confidence, 1)
        np.testing.assert_allclose(held, before, atol=1e-4)
        count += 1
    return count


def sure(policy: Policy) -> None:
    """Have its pointers be sure of what they point at."""
    with torch.no_grad():
        policy.trunk.pointers.seen[-1].bias.fill_(3.0)


@pytest.mark.parametrize("groups", [1, 2])
def test_replay_holds_what_was_remembered(remembering: list[str], tmp_path: Path, groups: int) -> None:
    run = config.load([*remembering, f"train.groups={groups}", "replay.cache=never"], command="train")
    start = build.fresh_policy(run, build.env_spec(run))
    sure(start)
    start.save_pretrained(tmp_path / "start" / "pretrained_model")
    run = config.load(
        [*remembering, f"train.groups={groups}", "replay.cache=never", f"train.checkpoint={tmp_path}/start"],
        command="train",
    )
    state = train_state.make(run, tmp_path / "run")
    with Log(tmp_path, None, 1, "", show=False) as log:
        for _ in range(25 * groups):
            state.collector.step(state.explore, log)
        state.collector.settle(log)
    state.close()
    assert check_rows(state.replay, state.policy) > 1
    assert check_rows(state.demos, state.policy) == 3


def test_evaluation_carries_it_from_step_to_step(remembering: list[str]) -> None:
    run = config.load(remembering, command="train")
    spec = build.env_spec(run)
    policy = build.fresh_policy(run, spec)
    sure(policy)
    with torch.no_grad():
        for parameter in policy.head.parameters():  # decisions that depend on what is read
            parameter.add_(torch.randn_like(parameter))
    (make_env,) = build.env_factories(run, spec).values()
    seeds = list(VALIDATION_SEEDS[:4])
    together = evaluate(Actor(policy), make_env, seeds, num_envs=3)
    for outcome in together.outcomes:
        env, actor, noted = make_env(), Actor(policy), None
        seen, _ = env.reset(seed=outcome.seed)
        for tokens in outcome.tokens:
            here = batched(seen)
            decided, told = actor(here if noted is None else here | {REMEMBERED: noted})
            assert decided[0].tolist() == tokens.tolist()
            noted = told[REMEMBERED]
            seen, *_ = env.step(decided[0])


def test_a_run_resumes_and_refuses_pictures_that_move(
    remembering: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", *remembering, "train.steps=30"]) == 0
    assert cli.main(["train", *remembering, "train.steps=40", "resume=true"]) == 0
    capsys.readouterr()
    assert cli.main(["train", *remembering, "algorithm.shift=2"]) == 2
    assert "algorithm.shift: moves pictures" in capsys.readouterr().err
