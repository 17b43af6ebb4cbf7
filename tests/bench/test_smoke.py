"""Speed is measured on the work that it claims; how fast this machine is, no test says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sims.register import SCREENS, TABLE_TOP
from vla_rl import cli, config, registry
from vla_rl.bench import envs as bench_envs
from vla_rl.envs import shorthand

ROOT = Path(__file__).resolve().parents[2]
BRIEF = """
from vla_rl.bench import envs as bench_envs  # first, since it says with what MuJoCo's own renderer draws
from vla_rl import cli, config, envs
bench_envs.ROUNDS, bench_envs.STEPS, bench_envs.RACE_STEPS, bench_envs.WORKER_STEPS = 1, 25, 25, 32
bench_envs.RECORDED, bench_envs.PER_WORKER = 100, 2
import gymnasium
import numpy as np
"""


def run(code: str) -> str:
    """What a program of its own prints; mujoco chooses its OpenGL once in a process."""
    done = subprocess.run([sys.executable, "-c", BRIEF + code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_named_environments_are_measured() -> None:
    found = json.loads(run("raise SystemExit(cli.main(['bench', 'envs', 'pick', 'reach', '--json']))"))
    assert found.pop("actors_share") == found["reach"]["actors_share"]
    assert {name: each["id"] for name, each in found.items()} == {"reach": "vla_rl/Reach-v0", "pick": "vla_rl/Pick-v0"}
    for each in found.values():
        assert each["steps_per_s"] > 0
        assert each["share"] > 0
        assert each["actors_steps_per_s"] > 0
        assert each["actors_share"] > 0
        assert "foreign_render_speedup" not in each


def test_screens_have_a_number_of_their_own() -> None:
    found = json.loads(run("raise SystemExit(cli.main(['bench', 'envs', 'gui_tick_boxes', '--json']))"))
    assert found.keys() == {"gui_tick_boxes"}
    assert found["gui_tick_boxes"].keys() == {"id", "gui_steps_per_s"}


def test_every_environment_is_named_once() -> None:
    names = bench_envs.all_names()
    assert {"reach", "push"} <= set(names)
    envs = [config.load(shorthand.overrides_of([name])).env for name in names]
    assert {*TABLE_TOP, *SCREENS} <= {env.id for env in envs}
    assert len({(env.id, registry.task_named(env.id, env.kwargs)) for env in envs}) == len(envs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["smoke", "reach"], "takes no environments, got reach"), (["envs", "rech"], "did you mean 'reach'?")],
)
def test_a_wrong_name_is_a_users_error(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", *arguments]) == cli.USER_ERROR
    assert message in capsys.readouterr().err


def test_the_bare_loop_lives_through_the_episodes_of_the_environment() -> None:
    run("""
from itertools import cycle
env = envs.factory(config.load(["env=push"]))()
world = env.unwrapped.world
action = np.array([1, 0.5, -1], np.float32)
env.reset(seed=0)
bare = bench_envs._Bare(env, cycle([action]), bench_envs.RECORDED)
recorded = -(-bench_envs.RECORDED // env.unwrapped.task.horizon)
assert recorded > 1
for seed in [0] + [None] * (recorded - 1) + [0]:  # and over again
    env.reset(seed=seed)
    if seed == 0:
        env.reset()
    ended = False
    while not ended:
        _, _, terminated, truncated, _ = env.step(action)
        ended = terminated or truncated
        bare.step()
        np.testing.assert_allclose(bare._data.qpos, world.data.qpos, atol=1e-3)
        np.testing.assert_array_equal(bare._model.geom_rgba, world.model.geom_rgba)
        np.testing.assert_array_equal(bare._model.geom_group, world.model.geom_group)
""")


def test_another_packages_rendering_is_compared_with_ours() -> None:
    pytest.importorskip("imageio", reason="gymnasium[mujoco] needs imageio")
    out = run("""
import mujoco
env = gymnasium.make("Reacher-v5", render_mode="rgb_array", width=84, height=84)
env.reset(seed=0)
renderer = mujoco.Renderer(env.unwrapped.model, 84, 84)

def draw():
    renderer.update_scene(env.unwrapped.data)
    return renderer.render()

speedup = bench_envs.foreign_render_speedup(env, draw, repeats=3)
assert np.isfinite(speedup) and speedup > 0
try:
    bench_envs.foreign_render_speedup(env, lambda: np.zeros((8, 8)))
except ValueError as error:
    print(error)
""")
    assert "draws (84, 84, 3), but we draw (8, 8)" in out
