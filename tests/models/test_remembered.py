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
from vla_rl.models.pointers import MENTIONS
from vla_rl.models.policy import Policy
from vla_rl.models.remembered import (
    AWAY,
    DOUBT,
    GATE,
    KNOWN,
    LEAST,
    PEAKS,
    SURE,
    TRACKS,
    followed,
    shape,
    through,
    updated,
)
from vla_rl.replay import ReplayBuffer
from vla_rl.rollout.actor import Actor
from vla_rl.runtime.logger import Log
from vla_rl.specs import REMEMBERED, VALIDATION_SEEDS


def looked(steps: int, rows: int, seed: int, cameras: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Peaks [T, B, C, M, P, 3] that jump between a few homes, and confidences [T, B, C, M]."""
    rng, size = np.random.default_rng(seed), (steps, rows, cameras, MENTIONS, PEAKS)
    places = rng.uniform(-1, 1, (7, 2))[rng.integers(0, 7, size)] + rng.normal(0, 0.06, (*size, 2))
    share = np.sort(rng.dirichlet(np.ones(PEAKS + 1) / 2, size[:-1])[..., :PEAKS])[..., ::-1, None]
    peaks = torch.from_numpy(np.concatenate([places, share], -1)).float()
    return peaks, torch.from_numpy(rng.uniform(0.4, 1, size[:-1])).float()


def plain(peaks: np.ndarray, confidence: np.ndarray) -> list[list[float]]:
    """The tracks of one thing, whose peaks are [T, P, 3] and confidences [T], after all of them."""
    tracks = [[0.0, 0.0, 0.0, 0.0] for _ in range(TRACKS)]
    for seen, sure in zip(peaks.tolist(), confidence.tolist(), strict=True):
        free = set(range(TRACKS))
        for x, y, share in seen:
            adds = share * sure
            if sure <= SURE or adds < LEAST:
                continue
            gaps = {k: np.hypot(x - tracks[k][0], y - tracks[k][1]) for k in free if tracks[k][2] > 0}
            nearest, heaviest = min(gaps, key=lambda k: gaps[k], default=None), max(tracks, key=lambda track: track[2])
            known = heaviest[2] >= KNOWN
            if nearest is not None and gaps[nearest] <= GATE:
                adds *= DOUBT if known and tracks[nearest] is not heaviest else 1.0
                tracks[nearest][:3] = x, y, tracks[nearest][2] + adds
            else:
                nearest = min(sorted(free), key=lambda k: tracks[k][2])
                adds *= DOUBT if known and tracks[nearest] is not heaviest else 1.0
                if tracks[nearest][2] > adds:
                    continue
                tracks[nearest][:3] = x, y, adds
            free.remove(nearest)
        tracks = [[x, y, weight, float(k not in free)] for k, (x, y, weight, _) in enumerate(tracks)]
    return tracks


def test_it_is_what_a_plain_loop_keeps() -> None:
    peaks, confidence = looked(40, 12, seed=0)
    known = torch.zeros(12, *shape(2))
    for now in zip(peaks, confidence, strict=True):
        known = updated(known, *now)
    places, believed = followed(known, peaks[-1, ..., 0, :2], confidence[-1])
    corrected = doubted = hidden = 0
    for row, camera, thing in np.ndindex(12, 2, MENTIONS):
        tracks = plain(peaks[:, row, camera, thing].numpy(), confidence[:, row, camera, thing].numpy())
        np.testing.assert_allclose(known[row, camera, thing], tracks, atol=1e-5)
        x, y, weight, went_on = max(tracks, key=lambda track: track[2])
        own = peaks[-1, row, camera, thing, 0, :2].tolist()
        sure = float(confidence[-1, row, camera, thing])
        left = not went_on and weight >= KNOWN and np.hypot(x - own[0], y - own[1]) > AWAY
        stays = left and sure <= SURE
        np.testing.assert_allclose(places[row, camera, thing], [x, y] if went_on or stays else own, atol=1e-5)
        assert believed[row, camera, thing] == pytest.approx(DOUBT if left else sure)
        corrected, doubted, hidden = corrected + (went_on and [x, y] != own), doubted + left, hidden + stays
    assert corrected > 1
    assert doubted > hidden > 1
    alone = through(torch.zeros(1, *shape(2)), peaks[:, 0], confidence[:, 0])
    torch.testing.assert_close(alone[-1], known[0])


def test_a_moving_thing_is_followed_past_its_twin() -> None:
    thing, twin, guess = [(-0.5 + 0.05 * step, 0.1) for step in range(14)], (0.6, 0.6), (0.0, -0.9)
    told = [[(*at, 0.9), (*twin, 0.1)] for at in thing[:6]]
    told += [[(*twin, 0.6), (*at, 0.4)] for at in thing[6:9]]  # taken for its twin, and the right place second
    told += [[(*guess, 0.9), (*twin, 0.1)] for _ in thing[9:12]]  # hidden, and it is not sure
    told += [[(*at, 0.9), (*twin, 0.1)] for at in thing[12:]]
    peaks = torch.tensor(told)[:, None, None].repeat(1, 1, MENTIONS, 1, 1)
    sure = torch.tensor([0.95] * 9 + [0.3] * 3 + [0.95] * 2)[:, None, None].repeat(1, 1, MENTIONS)
    found, believed = followed(through(torch.zeros(1, *shape(1)), peaks, sure), peaks[..., 0, :2], sure)
    last = thing[8]  # before it was hidden
    np.testing.assert_allclose(found[:, 0, 0], [*thing[:9], *[last] * 3, *thing[12:]], atol=1e-6)
    np.testing.assert_allclose(believed[:, 0, 0], [0.95] * 9 + [DOUBT] * 3 + [0.95] * 2, atol=1e-6)


def test_a_thing_that_is_not_to_be_seen_any_more_is_not_believed_to_be_another() -> None:
    thing, other = (-0.5, 0.1), (0.6, 0.6)
    told = [[(*at, 0.97), (0.0, 0.0, 0.0)] for at in [thing] * 4 + [other] * 14]
    peaks = torch.tensor(told)[:, None, None].repeat(1, 1, MENTIONS, 1, 1)
    sure = torch.full((18, 1, MENTIONS), 0.95)
    _, believed = followed(through(torch.zeros(1, *shape(1)), peaks, sure), peaks[..., 0, :2], sure)
    np.testing.assert_allclose(believed[:, 0, 0], [0.95] * 4 + [DOUBT] * 13 + [0.95], atol=1e-6)  # at last it is


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
    assert again.settings.remembers is True
    for a, b in zip(knowing, again.logits(again.ground(seen | noted)), strict=True):
        torch.testing.assert_close(a, b)
    packed = policy.ground(seen | noted).pack()
    assert {name: (value.shape[1:], value.dtype) for name, value in packed.items()} == policy.cached_features()
    unpacked = Features.unpack(packed, seen)
    torch.testing.assert_close(unpacked.remembered, policy.ground(seen | noted).remembered)


@pytest.fixture(params=["true", "turns"])
def remembering(line: list[str], tmp_path: Path, request: pytest.FixtureRequest) -> list[str]:
    own = [
        f"policy.remembers={request.param}",
        "demos.episodes=3",
        "algorithm.demo_share=0.25",
        "policy.precision=float32",
    ]
    record(config.load([*line, *own], command="demos"))
    return [*line, *own]


def check_rows(replay: ReplayBuffer, policy: Policy) -> int:
    """Every episode's rows hold what its earlier rows would have had remembered; how many episodes there were."""
    count = 0
    for ids in replay.episodes():
        seen = replay.observations(ids)
        held = seen.pop(REMEMBERED)
        after = policy.ground_episode(seen).remembered[:-1]
        np.testing.assert_allclose(held, torch.cat([torch.zeros_like(after[:1]), after]), atol=1e-4)
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
