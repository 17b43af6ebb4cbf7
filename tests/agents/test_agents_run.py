"""The comparison of agents: settings, words, the command from demonstrations to a table."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from scripts.agents import course, run, table
from scripts.agents.course import NUMBERS, PIXELS, Words
from scripts.agents.pixels import DRQV2
from vla_rl.registry import ConfigError
from vla_rl.specs import STATE

ROOT = Path(__file__).resolve().parents[2]


def test_settings_are_changed_by_key_and_value() -> None:
    settings = run.changed(DRQV2, ["batch_size=32", "updates_per_step=1", "channels=[8, 8, 8, 8]", "film=true"])
    assert (settings.batch_size, settings.updates_per_step, settings.film) == (32, 1.0, True)
    assert settings.channels == (8, 8, 8, 8)
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        run.changed(DRQV2, ["batch_sise=3"])
    with pytest.raises(ConfigError, match="batch_size: expected int"):
        run.changed(DRQV2, ["batch_size=many"])


def test_words_tell_the_block_from_the_mark() -> None:
    words = Words.of(["push the red cube to the blue mark", "reach the green bar"])
    one, other = words("push the red cube to the blue mark"), words("push the blue cube to the red mark")
    assert one.shape == (words.size,)
    assert not np.array_equal(one, other)
    assert one.sum() == other.sum() == 7
    assert np.array_equal(words("push the red cube to the blue mark, unheard"), one) is False
    assert np.array_equal(words("unheard push the red cube to the blue mark"), one)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> course.Course:
    return course.course("smoke", 1, 40, tmp_path_factory.mktemp("course"))


def test_a_rival_sees_what_ours_sees(small: course.Course) -> None:
    env = small.env()
    seen, _ = env.reset(seed=3)
    inner, _ = env.unwrapped.reset(seed=3)
    assert seen[PIXELS].shape == (6, 40, 40)
    assert env.observation_space.contains(seen)
    assert np.array_equal(seen[PIXELS][:3].transpose(1, 2, 0), inner["observation.images.front"])
    assert np.array_equal(seen[PIXELS][3:].transpose(1, 2, 0), inner["observation.images.side"])
    assert np.array_equal(seen[NUMBERS][: len(inner[STATE])], inner[STATE])
    assert np.array_equal(seen[NUMBERS][len(inner[STATE]) :], small.words(inner["task"]))
    assert seen[NUMBERS][len(inner[STATE]) :].sum() > 2


def test_demonstrations_are_what_the_environment_shows(small: course.Course) -> None:
    assert len(small.shown) == 2
    env = small.env()
    first = small.shown[0]
    seen, _ = env.reset(seed=1000)  # the first of the seed's demonstrations
    for step in range(len(first)):
        assert np.array_equal(seen[PIXELS], first.seen[PIXELS][step])
        assert np.array_equal(seen[NUMBERS], first.seen[NUMBERS][step])
        seen, reward, *_ = env.step(first.action[step])
        assert reward == first.reward[step]
    assert first.terminated[-1]


def test_success_is_measured_once_a_seed(small: course.Course) -> None:
    asked = []

    def act(seen: course.Seen) -> np.ndarray:
        asked.append(len(seen[NUMBERS]))
        return np.zeros((len(seen[NUMBERS]), small.actions), np.float32)

    assert small.evaluate(act, episodes=5, together=2) == small.evaluate(act, episodes=5, together=5)
    assert max(asked) == 5


@pytest.mark.parametrize("name", ["drqv2_demos", "sac_demos"])
def test_a_run_writes_its_curve(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["learning_starts=10", "batch_size=4", "updates_per_step=0.5", "image_size=40"]
    run.main([name, "smoke", "1", "--steps=24", "--every=12", "--episodes=2", f"--out={tmp_path}", *small])
    told = json.loads((tmp_path / f"{name}_smoke_1.json").read_text())
    assert [point["env_steps"] for point in told["curve"]] == [12, 24]
    assert told["settings"]["batch_size"] == 4
    assert told["changed"] == small
    assert "defaults" in told["source"] or "cfgs" in told["source"]
    capsys.readouterr()
    table.main([str(tmp_path), "--steps=12"])
    assert f"| smoke | {name} | 1 |" in capsys.readouterr().out


def test_the_table_says_where_a_task_was_learned() -> None:
    points = [(5_000, 1.0, 20.0), (40_003, 8.0, 88.0), (45_000, 9.0, 91.0), (50_000, 10.0, 90.0)]
    curve = [
        {"env_steps": steps, "minutes": took, "cpu_minutes": took / 2, "pc_success": success}
        for steps, took, success in points
    ]
    known = {"task": "reach", "agent": "sac", "label": "", "seed": 1, "episodes": 100}
    short = known | {"agent": "rlpd", "label": "small", "curve": curve[:1]}
    head, line, *rows = table.table([known | {"curve": curve}, short, known | {"curve": []}], 40_000).splitlines()
    assert head.count("|") == line.count("|") == 8
    slow, fast = rows
    assert "| rlpd (small) | 1 | 20% (13 to 29) at 5,000 |" in slow
    assert "not reached" in slow
    assert (
        "| sac | 1 | 88% (80 to 93) | 91% (84 to 95) at 45,000 steps, 9.0 min (cpu 4.5) | 45,000 steps, 9.0 min" in fast
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("venv", "arguments"),
    [
        (".venv", ["filtered_bc", "smoke", "1"]),
        (".venvs/rivals-lerobot", ["lerobot_sac", "smoke", "1", "learning_starts=8", "batch_size=4", "image_size=64"]),
        (".venvs/rivals-torchrl", ["tiny_vla", "toy", "1", "collector.total_iters=1"]),
    ],
)
def test_agents_with_packages_of_their_own_run(venv: str, arguments: list[str], tmp_path: Path) -> None:
    python = ROOT / venv / "bin/python"
    if not (ROOT / venv / ("agents" if "rivals" in venv else "bin")).exists():
        pytest.skip(f"bash scripts/bench_agents.sh {' '.join(arguments[:3])} makes {venv}")
    few = ["--steps=32", "--every=16", "--episodes=2", f"--out={tmp_path}"]
    subprocess.run([python, "-m", "scripts.agents.run", *arguments, *few], cwd=ROOT, check=True)
    (written,) = tmp_path.glob("*.json")
    assert json.loads(written.read_text())["curve"]
