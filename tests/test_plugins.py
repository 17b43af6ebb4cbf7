"""A user's own sensor and own action space: one small class each, in the user's own file, named in a config."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from vla_rl import build, cli, config, envs, registry
from vla_rl.bench import envs as bench_envs
from vla_rl.data import demos
from vla_rl.envs import TokenEnv, shorthand
from vla_rl.envs.vector import VectorEnvs
from vla_rl.registry import ConfigError
from vla_rl.specs import IMAGES, STATE

MODULE = '''
"""What a user writes."""
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vla_rl.specs import SensorSpec, Slot

Path(__file__).with_suffix(".canary").touch()


@dataclass(frozen=True)
class MyLidar:
    """How far the gripper is from each of `beams` walls, in metres."""

    beams: int
    name: str = "lidar"

    def spec(self, world):
        return SensorSpec("vector", (self.beams,), "float32", "m", 0, 10)

    def read(self, world):
        return np.full(self.beams, 1 + np.abs(world.joint_positions).max(), np.float32)


@dataclass(frozen=True)
class MyCompass:
    """A push of `stride` along one axis: six directions, one token."""

    stride: float = 1.0
    shape: tuple[int, ...] | None = None

    def bind(self, space):
        if space.shape != (3,):
            raise ValueError(f"action dimension: expected (3,), got {space.shape}")
        return replace(self, shape=tuple(space.shape))

    @property
    def slots(self):
        return (Slot(6),)

    def mask(self, prefix):
        return None

    def decode(self, tokens):
        action = np.zeros(self.shape, np.float32)
        action[int(tokens[0]) // 2] = self.stride if int(tokens[0]) % 2 else -self.stride
        return action

    def encode(self, action):
        axis = int(np.abs(action).argmax())
        return np.array([2 * axis + int(action[axis] > 0)])
'''

SENSORS = [
    {"type": "camera", "width": 16, "height": 16},
    {"type": "my_module:MyLidar", "beams": 5},
    {"type": "instruction"},
]
WORDS = (
    "env.sensors=[{type: camera, width: 16, height: 16}, {type: 'my_module:MyLidar', beams: 5}, {type: instruction}]",
    "action_space={type: 'my_module:MyCompass', stride: 0.5}",
)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's file, where Python finds it; `my_module.canary` appears beside it when it is imported."""
    file = tmp_path / "my_module.py"
    file.write_text(MODULE)
    sys.modules.pop("my_module", None)  # another test's
    monkeypatch.syspath_prepend(tmp_path)
    yield file
    sys.modules.pop("my_module", None)


def test_an_environment_shows_what_the_users_sensor_reads(module: Path) -> None:
    env = gymnasium.make("sims:vla_rl/Reach-v0", sensors=SENSORS, plugins=["my_module"])
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert observation[STATE].shape == (5,)
    assert (observation[STATE] >= 1).all()
    env.close()


def test_a_run_acts_through_the_users_sensor_and_action_space(module: Path) -> None:
    run = config.load(["env=reach", "plugins=[my_module]", *WORDS])
    env = envs.make_env(run.env.id, run.env.sensors, run.env.kwargs, run.plugins)
    tokens = envs.bind_tokens(run.action_space, env.action_space, run.plugins)
    acting = TokenEnv(env, tokens)
    observation, _ = acting.reset(seed=0)
    assert observation[IMAGES + "front"].shape == (16, 16, 3)
    before = env.unwrapped.world.commanded_position.copy()  # type: ignore[attr-defined]
    acting.step(np.array([1]))
    moved = env.unwrapped.world.commanded_position - before  # type: ignore[attr-defined]
    assert moved[0] > 0
    assert moved[1:].tolist() == [0, 0]
    acting.close()


def test_the_users_action_space_composes_and_is_kept_with_a_policy(module: Path) -> None:
    inner = {"type": "my_module:MyCompass", "stride": 0.5}
    built = registry.build("action_spaces", {"type": "chunk", "horizon": 2, "inner": inner}, ["my_module"])
    bound = built.bind(gymnasium.spaces.Box(-1, 1, (3,)))
    assert [action.tolist() for action in bound.decode(np.array([1, 4]))] == [[0.5, 0, 0], [0, 0, -0.5]]
    described = registry.describe(bound, "action_spaces")
    assert described["inner"] == inner | {"shape": [3]}
    assert registry.build("action_spaces", described, ["my_module"]) == bound
    with pytest.raises(ConfigError, match="`plugins` do not list"):
        registry.build("action_spaces", described)


@pytest.mark.parametrize("word", WORDS)
def test_a_config_that_does_not_list_the_module_never_imports_it(module: Path, word: str) -> None:
    with pytest.raises(ConfigError, match="lies in module 'my_module', which the run's `plugins` do not list"):
        config.load([word, "plugins=[json]"])
    assert not module.with_suffix(".canary").exists()


def test_an_environment_that_was_not_told_of_the_module_never_imports_it(module: Path) -> None:
    with pytest.raises(ConfigError, match="`plugins` do not list"):
        gymnasium.make("sims:vla_rl/Reach-v0", sensors=SENSORS)
    assert not module.with_suffix(".canary").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{type: 'my_module:MyLidar', beam: 5}", "env.sensors[0].beam: unknown key; did you mean 'beams'?"),
        (
            "{type: 'my_module:MyLidar', beams: '5'}",
            "env.sensors[0].beams: a number is needed, and '5' is text",
        ),
        ("{type: 'my_module:MyLidar'}", "env.sensors[0].beams: missing; MyLidar needs it"),
    ],
)
def test_the_users_fields_are_checked_like_the_built_in_ones(module: Path, values: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(["plugins=[my_module]", f"env.sensors=[{values}]"])
    assert str(caught.value).startswith(message)


def test_the_command_finds_the_module_where_it_is_run(tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text(MODULE)
    # -P: the interpreter itself adds no folder to the path, just as with the installed `vla-rl`.
    program = [sys.executable, "-P", "-c", "import sys; from vla_rl.cli import main; sys.exit(main())"]
    command = [*program, "train", "--print", "plugins=[my_module]", *WORDS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "my_module:MyLidar" in done.stdout
    assert "my_module:MyCompass" in done.stdout


def test_a_listed_module_that_is_missing_is_named_by_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("demos", "sft", "train", "eval", "play", "audit"):
        assert cli.main([command, "plugins=[json, no_such_module]"]) == cli.USER_ERROR
        assert "plugins[1]: cannot import 'no_such_module': No module named" in capsys.readouterr().err
    assert cli.main(["train", "plugins=[my_module.py/]"]) == cli.USER_ERROR
    assert "plugins[0]: a module is named as `import` names it, got 'my_module.py/'" in capsys.readouterr().err


OWN_WORLD = """
import gymnasium
import numpy as np


class Room(gymnasium.Env):
    observation_space = gymnasium.spaces.Dict(
        {
            "observation.images.front": gymnasium.spaces.Box(0, 255, (16, 16, 3), np.uint8),
            "task": gymnasium.spaces.Text(9),
        }
    )
    action_space = gymnasium.spaces.Box(-1, 1, (2,))

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action):
        return self._seen(), 1.0, True, False, {"is_success": True}

    def expert_action(self):
        return np.zeros(2, np.float32)

    def _seen(self):
        return {"observation.images.front": np.zeros((16, 16, 3), np.uint8), "task": "rest"}


gymnasium.register("own/Room-v0", entry_point=Room)
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module `my_world` that registers an environment of its own."""
    (tmp_path / "my_world.py").write_text(OWN_WORLD)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_world", None)
    gymnasium.registry.pop("own/Room-v0", None)


WORLD = ["plugins=[my_world]", "env.id=own/Room-v0", "env.sensors=null", "env.kwargs={}"]


def test_an_environment_that_a_listed_module_registers_is_known(world: None, tmp_path: Path) -> None:
    run = config.load([*WORLD, "demos.episodes=2", f"demos.path={tmp_path / 'demos'}"], command="demos")
    assert len(demos.load(demos.record(run), build.env_spec(run).observation)) == 2


def test_workers_import_the_listed_modules_themselves(world: None) -> None:
    run = config.load(WORLD)
    envs_in_workers = VectorEnvs(build.env_factory(run, build.env_spec(run)), 1, workers=1)
    try:
        assert envs_in_workers.reset(0).observation["task"] == ["rest"]
    finally:
        envs_in_workers.close()


def test_a_bare_word_names_an_environment_of_a_listed_module(world: None) -> None:
    assert shorthand.overrides_of(["plugins=[my_world]", "own/Room-v0"])[1] == "env.id=own/Room-v0"


def test_the_bench_of_environments_takes_plugins_too(world: None, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[config.RunConfig] = []
    monkeypatch.setattr(bench_envs, "measure_env", lambda run: runs.append(run) or {"steps_per_s": 1.0})
    monkeypatch.setattr(bench_envs, "_line", str)
    bench_envs.bench_envs(["plugins=[my_world]", "own/Room-v0"])
    assert [(run.plugins, run.env.id) for run in runs] == [(["my_world"], "own/Room-v0")]


@pytest.mark.parametrize("command", ["play", "audit"])
def test_commands_take_a_bare_word_of_a_listed_module(
    world: None, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    given = ["--lines"] if command == "play" else ["--episodes", "1"]
    cli.main([command, "plugins=[my_world]", "own/Room-v0", *given])
    assert "is registered" not in capsys.readouterr().err
