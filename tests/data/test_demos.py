"""Demonstrations: recorded, read back, refused where wrong, and turned into decisions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest

from tests.fakes import CAMERA, LINE, Line
from tests.unsealed import unsealed
from vla_rl.actions.binned import Binned
from vla_rl.actions.choice import Choice
from vla_rl.actions.chunk import Chunk
from vla_rl.actions.command import Commands
from vla_rl.actions.compose import Compose
from vla_rl.data import demos
from vla_rl.data.decisions import to_decisions
from vla_rl.data.flat import pack, unpack
from vla_rl.data.record import perturbed
from vla_rl.envs import ObservationShape
from vla_rl.registry import ConfigError
from vla_rl.replay import ReplayBuffer
from vla_rl.specs import HELD_OUT_SEEDS, STATE

UNIT = gymnasium.spaces.Box(-1, 1, (1,))
SHAPE = ObservationShape(images={CAMERA: (8, 8, 3)}, state=1)


def config(path: Path, env: str = LINE, episodes: int = 4, noise: float = 0.0, seed: int = 0) -> SimpleNamespace:
    run = SimpleNamespace(
        env=SimpleNamespace(id=env, sized=lambda plugins: None, kwargs={}, adapter=None),
        plugins=[],
        action_space="binned",
        demos=SimpleNamespace(episodes=episodes, noise=noise, seed=seed, folder=path),
    )
    run.each = lambda: (run,)
    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return demos.record(config(tmp_path / "demos", noise=0.4))  # type: ignore[arg-type]


@pytest.fixture
def line() -> demos.Demonstrations:
    return demos.demonstrate(gymnasium.make(LINE), episodes=4, noise=0.4)


def test_what_was_recorded_is_what_is_read(folder: Path, line: demos.Demonstrations) -> None:
    read = demos.load(folder, SHAPE)
    assert len(read) == 4
    assert read.meta["env"] == LINE
    for got, want in zip(read, line, strict=True):
        assert (got.tasks, got.seed, len(got)) == (want.tasks, want.seed, len(want))
        for key in (CAMERA, STATE):
            np.testing.assert_array_equal(got.observations[key], want.observations[key])
            assert len(got.observations[key]) == len(got) + 1
        for name in ("action", "label", "reward", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(got, name), getattr(want, name))


def test_a_text_that_changes_is_kept_with_each_observation(line: demos.Demonstrations, tmp_path: Path) -> None:
    first, *rest = line
    answered = tuple(f"{first.tasks[0]}\nstep {i}" for i in range(len(first) + 1))
    changed = replace(line, episodes=(replace(first, tasks=answered), *rest))
    read = demos.load(demos.save(changed, tmp_path / "changed"), SHAPE)
    assert [episode.tasks for episode in read] == [answered, *(episode.tasks for episode in rest)]
    assert read.episodes[0].observation([1, 0])["task"] == [answered[1], answered[0]]
    meta = json.loads((tmp_path / "changed" / "meta.json").read_text())
    assert isinstance(meta["episodes"][1]["task"], str)
    meta["episodes"][0]["task"].pop()
    (tmp_path / "changed" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(demos.DemonstrationError, match=r"meta\.json: .*task: \d+ texts for \d+ observations"):
        demos.load(tmp_path / "changed", SHAPE)


def test_only_successes_are_kept(line: demos.Demonstrations) -> None:
    for episode in line:
        assert episode.reward[-1] == 1.0
        assert episode.terminated.tolist() == [False] * (len(episode) - 1) + [True]
        assert abs(episode.observations[STATE][-1, 0]) < 0.1


def test_labels_are_the_experts_where_the_noise_led(line: demos.Demonstrations) -> None:
    different = 0
    for episode in line:
        expert = np.clip(-episode.observations[STATE][:-1] / 0.25, -1, 1)
        np.testing.assert_allclose(episode.label, expert, atol=1e-6)
        moved = np.diff(episode.observations[STATE], axis=0)
        np.testing.assert_allclose(moved, 0.25 * episode.action, atol=1e-6)
        assert np.abs(episode.action).max() <= 1
        different += int((episode.action != episode.label).sum())
    assert different > 0


def test_without_noise_the_action_is_the_label() -> None:
    for episode in demos.demonstrate(gymnasium.make(LINE), episodes=3, noise=0.0):
        np.testing.assert_array_equal(episode.action, episode.label)


def test_noise_replaces_a_command_as_a_whole() -> None:
    parts = {"at": gymnasium.spaces.Box(0, 1, (2,), np.float32), "words": gymnasium.spaces.MultiDiscrete([9, 9])}
    space = Commands({"wait": (), "click": ("at",), "type": ("words",)}, parts, seed=0)
    action, rng = space.command("type", words=(3, 4)), np.random.default_rng(0)
    others = 0
    for _ in range(200):
        moved = perturbed(action, space, 0.5, rng)
        kept = all(np.array_equal(moved[name], action[name]) for name in action)
        fresh = space.command(kind := space.kinds[int(moved["kind"])], **{n: moved[n] for n in space.takes[kind]})
        assert all(np.array_equal(moved[name], fresh[name]) for name in action), "a command of one kind only"
        others += not kept
    assert 70 <= others <= 130


class Odd(gymnasium.ObservationWrapper):
    """The line, whose observations an own environment gives in forms of its own."""

    def __init__(self, state: str = "float32", picture: str = "uint8", breaks_at: int = -1, says: int = 1) -> None:
        super().__init__(Line())
        self.state, self.picture, self.breaks_at = state, picture, breaks_at
        size = (1, says) if says > 1 else (1,)
        there = self.env.observation_space
        assert isinstance(there, gymnasium.spaces.Dict)
        self.observation_space = gymnasium.spaces.Dict(
            {**there.spaces, STATE: gymnasium.spaces.Box(-300, 300, size, np.float32)}
        )
        self.acted = 0

    def observation(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        line = self.env.unwrapped
        assert isinstance(line, Line)
        state = (observation[STATE] * 100).astype(self.state).reshape(self.observation_space[STATE].shape[0], -1)[0]
        if line.steps == self.breaks_at:
            state = state * np.nan
        picture = observation[CAMERA] if self.picture == "uint8" else (observation[CAMERA] / 255).astype(self.picture)
        return {**observation, STATE: state, CAMERA: picture, "mood": {"nested": 1}}  # type: ignore[dict-item]

    def step(self, action: np.ndarray) -> tuple:
        self.acted += 1
        return super().step(action)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "int16"])
def test_a_state_of_any_numbers_is_recorded_such_that_it_can_be_read(dtype: str, tmp_path: Path) -> None:
    recorded = demos.demonstrate(Odd(state=dtype), episodes=2)
    read = demos.load(demos.save(recorded, tmp_path / "d"), SHAPE)
    for got, want in zip(read, recorded, strict=True):
        assert got.observations[STATE].dtype == np.float32
        np.testing.assert_array_equal(got.observations[STATE], want.observations[STATE])
        assert 1 < np.abs(got.observations[STATE][0, 0]) <= 100


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (
            Odd(picture="float32"),
            rf"demos: {CAMERA}: pictures are kept as uint8 .* gives float32; .*astype\(np\.uint8\)",
        ),
        (Odd(state="complex64"), rf"demos: {STATE}: the state is kept as float32, and the environment gives complex64"),
        (Odd(says=3), rf"demos: {STATE}: the environment gives \[1\], and its observation_space says \[3\]"),
        (Odd(breaks_at=0), rf"{STATE}: entry \[0\] is nan; every number must be finite"),
    ],
)
def test_what_cannot_be_read_again_is_refused_before_anything_is_done(odd: Odd, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        demos.demonstrate(odd, episodes=1)
    assert odd.acted == 0


def test_an_environment_without_pictures_is_refused_before_anything_is_done() -> None:
    odd = Odd()
    odd.observation_space = gymnasium.spaces.Dict({STATE: odd.observation_space[STATE]})  # type: ignore[index]
    with pytest.raises(ConfigError, match=r"nothing could train on it: .*observation\.images"):
        demos.demonstrate(odd, episodes=1)
    assert odd.acted == 0


def test_held_out_seeds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="for evaluation"):
        demos.record(config(tmp_path / "d", seed=HELD_OUT_SEEDS.start))  # type: ignore[arg-type]
    assert not (tmp_path / "d").exists()


def test_an_env_without_an_expert_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fake/Wild-v0 has no scripted expert"):
        demos.record(config(tmp_path / "d", env="fake/Wild-v0"))  # type: ignore[arg-type]


def test_an_expert_that_fails_ends_the_search(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"only 0 of 40 episodes"):
        demos.record(config(tmp_path / "d", env="fake/Stuck-v0"))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(folder: Path) -> None:
    with pytest.raises(FileExistsError, match="exists already"):
        demos.record(config(folder))  # type: ignore[arg-type]


def test_a_missing_folder_and_a_missing_episode_are_named(folder: Path) -> None:
    with pytest.raises(demos.DemonstrationError, match=r"nowhere.*meta\.json: no such file"):
        demos.load(folder / "nowhere")
    (folder / "episode_000002.npz").unlink()
    with pytest.raises(demos.DemonstrationError, match=r"episode_000002\.npz: no such file"):
        demos.load(folder)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_named(folder: Path, share: float) -> None:
    path = unsealed(folder) / "episode_000001.npz"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(demos.DemonstrationError, match=r"episode_000001\.npz: damaged"):
        demos.load(folder)


def test_a_flipped_byte_is_noticed(folder: Path) -> None:
    path = folder / "episode_000001.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(demos.DemonstrationError, match=r"episode_000001\.npz"):
        demos.load(folder)


def tamper(folder: Path, **changes: np.ndarray | None) -> None:
    path = unsealed(folder) / "episode_000000.npz"
    with np.load(path) as file:
        arrays = dict(file) | {key.replace("__", "."): value for key, value in changes.items()}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def test_a_missing_key_a_wrong_shape_and_a_wrong_dtype_are_named(folder: Path) -> None:
    tamper(folder, reward=None)
    with pytest.raises(demos.DemonstrationError, match=r"episode_000000\.npz: lacks the key 'reward'"):
        demos.load(folder)
    tamper(folder, reward=np.zeros(99, np.float32))
    with pytest.raises(demos.DemonstrationError, match=r"reward: expected float32 \[\d+\], got float32 \[99\]"):
        demos.load(folder)


def test_values_that_are_not_finite_are_refused(folder: Path) -> None:
    first = next(iter(demos.load(folder)))
    tamper(folder, action=np.full_like(first.action, np.nan))
    with pytest.raises(demos.DemonstrationError, match=r"action: holds values that are not finite"):
        demos.load(folder)


def test_objects_are_never_unpickled(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> tuple:
            return canary.touch, ()

    tamper(folder, reward=np.asarray([Bomb()], object))
    with pytest.raises(demos.DemonstrationError, match=r"episode_000000\.npz"):
        demos.load(folder)
    assert not canary.exists()


def test_damaged_meta_is_named(folder: Path) -> None:
    path = folder / "meta.json"
    meta = json.loads(path.read_text())
    for wrong in ("{", "[]", json.dumps(meta | {"version": 99})):
        path.write_text(wrong)
        with pytest.raises(demos.DemonstrationError, match=r"meta\.json"):
            demos.load(folder)
    del meta["images"]
    path.write_text(json.dumps(meta))
    with pytest.raises(demos.DemonstrationError, match=r"meta\.json.*'images'"):
        demos.load(folder)


@pytest.mark.parametrize(
    ("expected", "key"),
    [
        (ObservationShape({CAMERA: (16, 16, 3)}, 1), CAMERA),
        (ObservationShape({CAMERA: (8, 8, 3), "observation.images.top": (8, 8, 3)}, 1), "observation.images.top"),
        (ObservationShape({CAMERA: (8, 8, 3)}, 4), STATE),
    ],
)
def test_sensors_that_do_not_fit_the_run_are_named(folder: Path, expected: ObservationShape, key: str) -> None:
    with pytest.raises(demos.DemonstrationError, match=key):
        demos.load(folder, expected)


def space() -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(-1, 1, (1,), np.float32)


def test_one_decision_a_step(line: demos.Demonstrations) -> None:
    tokens = Binned(bins=5).bind(space())
    for episode in line:
        decisions = demos.to_decisions(episode, tokens)
        assert len(decisions) == len(episode)
        for row in range(len(episode)):
            assert decisions.tokens[row].tolist() == tokens.encode(episode.action[row]).tolist()
            assert decisions.labels[row].tolist() == tokens.encode(episode.label[row]).tolist()
        np.testing.assert_array_equal(decisions.terminated, episode.terminated)


@pytest.mark.parametrize("horizon", [2, 3, 50])
def test_chunks_repeat_the_last_action(line: demos.Demonstrations, horizon: int) -> None:
    inner = Binned(bins=5)
    tokens = Chunk(inner, horizon).bind(space())
    episode = max(line, key=len)
    decisions = demos.to_decisions(episode, tokens)
    assert len(decisions) == -(-len(episode) // horizon)
    assert decisions.when.tolist() == [*range(0, len(episode), horizon), len(episode)]
    assert decisions.tokens.shape == decisions.labels.shape == (len(decisions), horizon)
    single = demos.to_decisions(episode, inner.bind(space())).labels[:, 0].tolist()
    padded = single + [single[-1]] * (horizon * len(decisions) - len(single))
    assert decisions.labels.reshape(-1).tolist() == padded
    assert decisions.reward.sum() == episode.reward.sum()
    assert decisions.terminated.tolist() == [False] * (len(decisions) - 1) + [True]


def test_replay_holds_every_decision_with_its_label_and_features(line: demos.Demonstrations) -> None:
    tokens = Binned(bins=5).bind(space())
    replay = ReplayBuffer(
        capacity=100, images=SHAPE.images, state_dim=1, slots=1, features={"place": ((1,), "float32")}, n_step=1
    )
    sizes = []

    def ground(observation: dict) -> dict[str, np.ndarray]:
        sizes.append(len(observation["task"]))
        return {"place": observation[STATE] * 2}

    added = demos.fill(replay, line, tokens, ground, batch_size=3)
    assert added == line.steps
    assert len(replay) == line.steps + len(line)
    assert max(sizes) <= 3
    batch = replay.sample(200, np.random.default_rng(0))
    assert batch.demo.all()
    np.testing.assert_allclose(batch.features["place"], batch.observation[STATE] * 2)
    expert = np.clip(-batch.observation[STATE] / 0.25, -1, 1)
    assert batch.labels.tolist() == [tokens.encode(action).tolist() for action in expert]
    assert (batch.tokens != batch.labels).any()
    ended = batch.discount == 0
    np.testing.assert_array_equal(batch.reward[ended], 1.0)
    assert (np.abs(batch.next_observation[STATE][ended]) < 0.1).all()


def test_demos_refuses_an_action_space_that_does_not_fit_before_anything_is_recorded(tmp_path: Path) -> None:
    run = config(tmp_path / "demos")
    run.action_space = "choice"
    with pytest.raises(ConfigError, match="action_space: choice needs a Discrete"):
        demos.record(run)  # type: ignore[arg-type]
    run.action_space = {"type": "binned", "bins": 5, "low": -0.5}
    demos.record(run)  # type: ignore[arg-type]


class Signs(gymnasium.Env):
    """Say `yes` three times in a row; there is `no`, and `perhaps`, with a number."""

    observation_space = gymnasium.spaces.Dict(
        {CAMERA: gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8), "task": gymnasium.spaces.Text(9)}
    )

    def __init__(self, render_mode: str | None = None) -> None:
        self.action_space = Commands(
            {"yes": (), "no": (), "perhaps": ("much",)}, {"much": gymnasium.spaces.Discrete(3)}
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.said: list[str] = []
        return self._seen(), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.said.append(self.action_space.kinds[int(action["kind"])])
        done = self.said[-3:] == ["yes"] * 3
        return self._seen(), float(done), done, False, {"is_success": done}

    def expert_action(self) -> Any:
        return self.action_space.command("yes")

    def _seen(self) -> dict[str, Any]:
        return {CAMERA: np.zeros((8, 8, 3), np.uint8), "task": "say yes"}


@pytest.fixture
def signs(monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of `Signs`."""
    spec = gymnasium.envs.registration.EnvSpec("fake/Signs-v0", entry_point=Signs)
    monkeypatch.setitem(gymnasium.registry, spec.id, spec)
    return spec.id


def test_noise_keeps_to_the_kinds_that_the_policy_may_use(signs: str, tmp_path: Path) -> None:
    run = config(tmp_path / "demos", signs, episodes=6, noise=0.5)
    run.action_space = {"type": "command", "kinds": ["yes", "perhaps"]}
    found = demos.load(demos.record(run), ObservationShape.of(Signs.observation_space))  # type: ignore[arg-type]
    space = Signs().action_space
    kinds = {int(unpack(row, space)["kind"]) for episode in found for row in episode.action}
    assert kinds == {0, 2}


def test_demos_names_what_the_expert_does_that_the_action_space_leaves_out(signs: str, tmp_path: Path) -> None:
    run = config(tmp_path / "demos", signs, episodes=1)
    run.action_space = {"type": "command", "kinds": ["no"]}
    with pytest.raises(ConfigError, match=r"no decision for what the expert of .*Signs.* does: .* one of the kinds no"):
        demos.record(run)  # type: ignore[arg-type]
    assert not (tmp_path / "demos").exists()


def test_noise_moves_each_part_of_a_tuple_by_itself() -> None:
    space = gymnasium.spaces.Tuple([gymnasium.spaces.Box(-1, 1, (1,)), gymnasium.spaces.Discrete(9)], seed=0)
    rng = np.random.default_rng(0)
    moved = [perturbed((np.zeros(1, np.float32), 4), space, 0.1, rng) for _ in range(100)]
    assert all(space.contains(each) for each in moved)
    assert 0.05 < np.std([each[0] for each in moved]) < 0.2
    assert sum(each[1] != 4 for each in moved) < 30


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (gymnasium.spaces.MultiDiscrete([3, 4]), np.array([2, 1])),
        (gymnasium.spaces.MultiBinary(3), np.array([1, 0, 1], np.int8)),
        (gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(3), gymnasium.spaces.Box(-1, 1, (2, 1))]), (2, [[1], [0]])),
        (gymnasium.spaces.OneOf([gymnasium.spaces.Discrete(3), gymnasium.spaces.MultiBinary(2)]), (1, [1, 0])),
        (gymnasium.spaces.OneOf([gymnasium.spaces.Discrete(3), gymnasium.spaces.MultiBinary(2)]), (0, 2)),
        (
            gymnasium.spaces.Dict(a=gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(2)] * 2), b=UNIT),
            {"a": (1, 0), "b": [0.5]},
        ),
    ],
)
def test_an_action_of_any_parts_comes_back_from_its_row(space: gymnasium.Space, action: Any) -> None:
    row = pack(action, space)
    assert row.ndim == 1
    again = unpack(row, space)
    assert space.contains(again)
    assert str(pack(again, space)) == str(row)


class Aiming(gymnasium.Env):
    """Its actions are a Tuple: which way, and how far; three steps of the expert are a success."""

    observation_space = Signs.observation_space
    action_space = gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(2), gymnasium.spaces.Box(-1, 1, (2,))])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._seen(), 0.0, self.steps == 3, False, {"is_success": True}

    def expert_action(self) -> Any:
        return self.steps % 2, np.array([0.5, -1.0], np.float32)

    def _seen(self) -> dict[str, Any]:
        return {CAMERA: np.zeros((8, 8, 3), np.uint8), "task": "aim"}


def test_actions_that_are_tuples_are_recorded_and_taught(tmp_path: Path) -> None:
    env = Aiming()
    tokens = Compose([Choice(), Binned(5)]).bind(env.action_space)
    path = demos.save(demos.demonstrate(env, episodes=1, tokens=tokens), tmp_path / "demos")
    (episode,) = demos.load(path, ObservationShape.of(env.observation_space))
    assert to_decisions(episode, tokens, env.action_space).labels.tolist() == [[0, 3, 0], [1, 3, 0], [0, 3, 0]]
