"""What an audit finds: leaks, prizes for nothing, rewards without success; and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

import sims  # noqa: F401  (registers the environments)
from tests import fakes
from vla_rl import cli, config
from vla_rl.actions import Binned, Chunk
from vla_rl.actions.command import Commands
from vla_rl.audit import blind_baselines, command, probes
from vla_rl.cli import commands
from vla_rl.envs import shorthand, still
from vla_rl.registry import ConfigError
from vla_rl.specs import STATE, TASK, TRAINING_SEEDS

SPACES = (
    Box(-1, 1, (3,), np.float32),
    Box(np.array([0, -np.inf], np.float32), np.array([4, np.inf], np.float32)),
    Discrete(4, start=2),
    MultiBinary(3),
    MultiDiscrete([3, 2, 5]),
    Dict({"robot": Box(-1, 1, (2,), np.float32), "tool": Discrete(2)}),
    Tuple([Box(-1, 1, (2,), np.float32), MultiBinary(2), Discrete(3)]),
    Commands(
        {"wait": (), "click": ("at",), "type": ("words",), "key": ("key",)},
        {"at": Box(0, 1, (2,), np.float32), "words": MultiDiscrete([5, 5]), "key": Discrete(2)},
    ),
)


class Hidden(fakes.Line):
    """The line from far away, its place in no state: only the picture shows it. The episode is long enough."""

    def reset(self, **kwargs: Any) -> tuple[dict[str, Any], dict]:
        super().reset(**kwargs)
        self.place = float(np.sign(self.place)) * 2.5
        return self._observe(), {}

    def _observe(self) -> dict[str, Any]:
        return super()._observe() | {STATE: np.zeros(1, np.float32)}


class Halfway(Hidden):
    """Pays for half of the way, once."""

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = super().step(action)
        return observation, float(abs(self.place) < 1.2), terminated, truncated, info


@pytest.fixture(autouse=True)
def few_demos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "DEMOS", 20)


def score(found: command.Audit, policy: str) -> command.ProbeScore:
    return next(each for each in found.scores if each.probe.name == policy)


def test_an_honest_environment_passes() -> None:
    found = command.examine(Hidden(), 40)
    assert found.reasons == []
    assert score(found, "expert").success == 100
    assert score(found, "no-op").success == 0
    assert score(found, "expert that stops").success < 50
    assert not found.skipped


def test_a_state_that_shows_the_answer_and_a_task_that_luck_solves_are_named() -> None:
    reasons = command.examine(fakes.Line(), 40).reasons
    assert any(reason.startswith("the state leaks the answer: image-blind, linear") for reason in reasons)
    assert any(reason.startswith("too easy: random") for reason in reasons)


def test_reward_without_success_is_the_gap() -> None:
    found = command.examine(Halfway(), 40)
    stops = score(found, "expert that stops")
    assert stops.gap == stops.paid - stops.success > 20
    assert score(found, "expert").gap == 0
    assert any(reason.startswith("the reward pays without success: to expert that stops") for reason in found.reasons)


@pytest.mark.parametrize("env_id", ["vla_rl/GamedStack-v0", "vla_rl/GamedDrawer-v0"])
def test_the_gamed_tasks_are_marked_and_fail_by_their_gap(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "DEMOS", 2)
    found = command.examine(gymnasium.make(env_id, sensors=["end_effector_pose", "instruction"]), 10)
    assert found.gamed
    assert any(reason.startswith("the reward pays without success") for reason in found.reasons)
    assert any("marked as gamed" in reason for reason in found.reasons)


def test_tokens_that_cannot_say_what_the_expert_does_are_named() -> None:
    env = Hidden()
    slow, enough = (Binned(3, low=-most, high=most).bind(env.action_space) for most in (0.5, 1.0))
    found = command.examine(env, 10, tokens=lambda: slow)
    assert score(found, "expert, in tokens").success == 0
    assert [reason[:28] for reason in found.reasons] == ["action_space is too coarse: "]
    assert command.examine(env, 10, tokens=lambda: enough).reasons == []
    several = Chunk(Binned(3), 2).bind(env.action_space)
    assert command.examine(env, 2, tokens=lambda: several).skipped == {
        "expert, in tokens": "a decision is of several steps"
    }


def test_an_action_that_no_token_says_is_named() -> None:
    class Mute(Binned):
        def encode(self, action: Any) -> np.ndarray:
            raise ValueError(f"no token for {action}")

    env = Hidden()
    found = command.examine(env, 2, tokens=lambda: Mute(3).bind(env.action_space))
    assert found.skipped["expert, in tokens"].startswith("no token for [")
    assert score(found, "expert").success == 100


def test_an_action_space_that_does_not_fit_is_said_and_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", "reach", "action_space={type: choice}", "--episodes", "8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["skipped"]["expert, in tokens"].startswith("action_space: ")


def test_reach_passes_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", "reach", "--episodes", "8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["env"], found["passed"], found["gamed"], found["reasons"]) == ("vla_rl/Reach-v0", True, False, [])
    names = [policy["policy"] for policy in found["policies"]]
    assert names[:5] == ["no-op", "random", "sticky random", "expert", "expert, in tokens"]
    assert names[-2:] == ["image-blind, nearest", "image-blind, linear"]
    for policy in found["policies"]:
        low, high = policy["success_ci95"]
        assert 0 <= low <= policy["success"] <= high <= 100
        assert (policy["episodes"], policy["invalid"]) == (8, 0)


def test_a_plain_gymnasium_environment_fails_without_a_verifier(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", "CartPole-v1", "--episodes", "3"]) == commands.AUDIT_FAILED
    out = capsys.readouterr().out
    assert "no verifier" in out
    assert "not tried: expert" in out
    assert "no scripted expert" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["rech"], "no environment 'rech'; did you mean 'reach'?"), (["reach", "--episodes", "0"], "at least 1, got 0")],
)
def test_a_users_error_is_no_verdict(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", *arguments]) == cli.USER_ERROR
    assert message in capsys.readouterr().err


class Unasked(fakes.Line):
    """The line, whose expert has to be named first."""

    def expert_action(self) -> np.ndarray:
        raise ConfigError("env.expert: null; name one")


class Button(Hidden):
    """Pays for a full step to the right, wherever the goal is."""

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = super().step(action)
        paid = bool(np.asarray(action).flat[0] > 0.9)
        return observation, float(paid), terminated or paid, truncated and not paid, info


class Pages(fakes.Line):
    """Pages of two buttons, the named one of which leads on, as the other does; the reward is for all the right ones.

    fair: whether the other button is named, too, for another page; then the order of the words tells.
    """

    needs_memory = True
    words = ("save", "mail", "open", "print")

    def __init__(self, fair: bool) -> None:
        super().__init__()
        self.fair, self.task, self.right = fair, self, list[str]()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict]:
        super().reset(seed=seed)
        self.right, self.page, self.clean = [str(word) for word in self.np_random.permutation(self.words)], 0, True
        return self._observe(), {}

    def things(self) -> list[tuple[str, np.ndarray]]:
        """The right button is used by +1, the other one by -1."""
        other = self.right[self.page - 1] if self.fair else "cancel"
        return [(self.right[self.page], np.ones(1, np.float32)), (other, -np.ones(1, np.float32))]

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.clean, self.page = self.clean and bool(action[0] > 0), self.page + 1
        ended, won = self.page == 4, self.page == 4 and self.clean
        self.page %= 4
        return self._observe(), float(won), ended, False, {"is_success": won}

    def expert_action(self) -> np.ndarray:
        return np.ones(1, np.float32)

    def _observe(self) -> dict[str, Any]:
        return super()._observe() | {TASK: f"press {', '.join(self.right)}"}


class Closed(fakes.Line):
    """The line, of which nothing is seen: the goal lies at one end or the other, and the expert knows at which."""

    def reset(self, **kwargs: Any) -> tuple[dict[str, Any], dict]:
        super().reset(**kwargs)
        self.place = float(np.sign(self.place)) * 2.5
        return self._observe(), {}

    def _observe(self) -> dict[str, Any]:
        return super()._observe() | {STATE: np.zeros(1, np.float32), fakes.CAMERA: np.zeros((8, 8, 3), np.uint8)}


def test_who_uses_what_is_named_solves_no_task_that_needs_a_memory() -> None:
    plain, fair = (command.examine(Pages(fair=each), 30) for each in (False, True))
    assert score(plain, "sighted, what is named").success == 100
    reasons = [reason for reason in plain.reasons if "memory" in reason]
    assert reasons[0].startswith("no memory is needed: sighted, what is named, which goes by the present alone")
    assert score(fair, "sighted, what is named").success < 25
    assert plain.as_json()["needs_memory"] is True


def test_only_a_task_that_says_that_it_needs_a_memory_is_held_to_it() -> None:
    env = gymnasium.make("vla_rl/GuiClickLabel-v0", sensors=["last_gestures", "instruction"])
    found = command.examine(env, 5)
    assert score(found, "sighted, what is named").success == 100
    assert not [reason for reason in found.reasons if "memory" in reason]


def test_an_attribute_that_happens_to_be_called_things_does_no_harm() -> None:
    env = fakes.Line()
    env.things = {"cup": 1}  # type: ignore[attr-defined]
    found = command.examine(env, 2)
    assert not [each for each in found.scores if each.probe.name == "sighted, what is named"]


def test_an_expert_that_knows_what_no_picture_shows_is_named() -> None:
    found = command.examine(Closed(), 10)
    assert any(reason.startswith("the expert knows what is not observed") for reason in found.reasons)
    assert not [reason for reason in command.examine(Hidden(), 10).reasons if "not observed" in reason]


def test_a_policy_that_hardly_looks_is_among_those_that_play() -> None:
    assert score(command.examine(Hidden(), 20), "sighted, thumbnails").success > 80
    assert score(command.examine(Closed(), 20), "sighted, thumbnails").success < 60


def test_what_chance_is_paid_for_is_found_and_replayed() -> None:
    luck = score(command.examine(Button(), 20), "image-blind, replayed luck")
    assert (luck.paid, luck.success, luck.gap) == (100, 0, 100)


def test_an_expert_that_nobody_named_is_skipped_with_its_reason() -> None:
    found = command.examine(Unasked(), 2)
    assert list(found.skipped.values()) == ["env.expert: null; name one"]
    names = [each.probe.name for each in found.scores]
    assert names[:3] == ["no-op", "random", "sticky random"]
    assert not [name for name in names if "expert" in name]


def test_episodes_that_the_environment_spoils_do_not_count() -> None:
    found = command.examine(fakes.Line(fragile=True), 14, first_seed=0).as_json()
    assert {(row["episodes"], row["invalid"]) for row in found["policies"]} == {(12, 2)}


def test_the_same_seeds_give_the_same_audit_and_are_for_training() -> None:
    seeds: list[int] = []

    class Seen(Hidden):
        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict]:
            assert seed is not None
            seeds.append(seed)
            return super().reset(seed=seed)

    assert command.examine(Seen(), 5).as_json() == command.examine(Seen(), 5).as_json()
    assert set(seeds) == {*range(400_000, 400_005), *range(300_000, 300_020)}
    assert set(seeds) <= set(TRAINING_SEEDS)


def test_random_actions_know_nothing_of_the_seed() -> None:
    class Guess(fakes.Line):
        """One step, in which to name the number that the environment has drawn."""

        def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
            right = abs(float(action[0]) - self.place) < 0.01
            return self._observe(), float(right), True, False, {"is_success": right}

    found = command.examine(Guess(), 20)
    assert score(found, "random").success < 20
    assert score(found, "sticky random").success < 20


def test_any_seed_of_a_run_gives_training_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    first: list[int] = []

    def examine(env: Any, episodes: int, first_seed: int, *rest: Any) -> Any:
        first.append(first_seed)
        raise InterruptedError

    monkeypatch.setattr(command, "examine", examine)
    for seed in (0, 99_999, 100_000, 2**32 - 1):
        with pytest.raises(InterruptedError):
            command.audit(config.load([f"seed={seed}"]), episodes=10)
    assert first[0] == 400_000
    assert len(set(first)) == 4
    assert all(seed in TRAINING_SEEDS and seed + 9 in TRAINING_SEEDS for seed in first)


def test_only_the_cameras_are_left_out() -> None:
    run = config.load(["env=reach"])
    assert run.env.sensors is not None
    left = command.unseen(run).env.sensors
    assert left == [sensor for sensor in run.env.sensors if sensor["type"] != "camera"]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_vector_is_the_action_that_it_was_made_of(space: gymnasium.Space) -> None:
    space.seed(0)
    for _ in range(20):
        action = space.sample()
        vector = np.asarray(gymnasium.spaces.flatten(space, action), np.float64)
        again = blind_baselines.to_action(space, vector)
        assert space.contains(again)
        np.testing.assert_array_equal(gymnasium.spaces.flatten(space, again), vector.astype(np.float32))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_doing_nothing_is_an_action(space: gymnasium.Space) -> None:
    assert space.contains(still(space))


def test_doing_nothing_is_the_middle_of_a_box() -> None:
    np.testing.assert_array_equal(still(Box(0, 1, (2,))), [0.5, 0.5])
    np.testing.assert_array_equal(still(SPACES[1]), [2, 0])


def test_doing_nothing_is_the_command_to_wait() -> None:
    space = SPACES[-1]
    assert isinstance(space, Commands)
    rest = still(space)
    assert space.kinds[int(rest["kind"])] == "wait"
    assert rest["at"].tolist() == [0, 0]


def test_actions_that_are_no_vectors_are_skipped_with_the_reason() -> None:
    with pytest.raises(ValueError, match="no vectors of a fixed length"):
        blind_baselines.to_action(gymnasium.spaces.Text(5), np.zeros(5))


def test_an_expert_that_sticks_keeps_one_entry() -> None:
    env = Hidden()
    env.reset(seed=0)
    stick = next(probe for probe in probes.imperfect(1) if probe.name == "expert that sticks")
    act = stick.begin(env, np.random.default_rng(0))
    first = act(None)
    env.place = -env.place
    assert np.array_equal(act(None), first) != np.array_equal(env.expert_action(), first)


def test_a_bare_word_is_a_config_an_id_or_one_of_ours_in_short(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "mine.yaml").touch()
    bare = ["env.sensors=null", "env.kwargs={}"]
    assert shorthand.overrides_of(["push", "seed=3"]) == ["env=push", "seed=3"]
    assert shorthand.overrides_of(["mine"], tmp_path) == ["env=mine"]
    assert shorthand.overrides_of(["CartPole-v1"]) == ["env.id=CartPole-v1", *bare]
    assert shorthand.overrides_of(["ArmPush"]) == ["env.id=vla_rl/ArmPush-v0", *bare]
    with pytest.raises(ConfigError, match="no environment 'pusch'; did you mean 'push'"):
        shorthand.overrides_of(["pusch"])
