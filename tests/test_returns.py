"""Whether the critic's range of values holds what an environment may bring."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from tests.fakes import LINE, Line
from vla_rl import config, envs, train_state
from vla_rl.registry import ConfigError

PAYING = "fake/Paying-v0"


class Paying(Line):
    """The same line, where each step costs."""

    reward_range = (-1.0, 0.5)

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, _, *rest = super().step(action)
        return observation, -1.0, *rest


if PAYING not in gymnasium.registry:
    gymnasium.register(PAYING, entry_point=f"{__name__}:Paying", max_episode_steps=20)


@pytest.mark.parametrize(
    ("gamma", "stride", "limited", "expected"),
    [(1.0, 1, True, (-20, 10)), (1.0, 5, True, (-20, 10)), (0.5, 1, True, (-2, 1)), (0.9, 2, False, (-20, 10))],
)
def test_what_a_step_may_pay_bounds_the_return(
    gamma: float, stride: int, limited: bool, expected: tuple[float, float]
) -> None:
    found = envs.possible_returns(gymnasium.make(PAYING), gamma, stride, limited)
    assert found == pytest.approx(expected, rel=1e-3)


def test_who_knows_its_returns_says_so() -> None:
    assert envs.possible_returns(envs.make_env("vla_rl/ArmReach-v0"), 0.9) == (0.0, 1.0)
    assert envs.possible_returns(gymnasium.make(LINE), 0.9) == (-np.inf, np.inf)


def made(quick: list[str], tmp_path: Path, *overrides: str) -> train_state.TrainState:
    run = config.load([*quick, f"run_dir={tmp_path}/run", "train.workers=0", *overrides], command="train")
    state = train_state.make(run, tmp_path / "run")
    state.collector.close()
    return state


def test_returns_beyond_the_value_range_are_refused_before_the_run(quick: list[str], tmp_path: Path) -> None:
    fake = [f"env.id={PAYING}", "env.sensors=null", "plugins=[tests.test_returns]", "demos.episodes=0"]
    with pytest.raises(ConfigError, match=r"value_range: \[-0.1, 1.1\] .* -8.78\d+ or 4.39\d+, which fake/Paying-v0"):
        made(quick, tmp_path, *fake)
    made(quick, tmp_path, *fake, "algorithm.value_range=[-9,5]")
    with pytest.raises(ConfigError, match=r"value_range: \[0.2, 0.9\] .* of 0 or 1, which vla_rl/Reach-v0"):
        made(quick, tmp_path, "demos.episodes=0", "algorithm.value_range=[0.2,0.9]")


def test_demonstrations_beyond_the_value_range_are_refused_before_the_run(quick: list[str], tmp_path: Path) -> None:
    from vla_rl.data.record import record

    fake = [
        f"env.id={LINE}",
        "env.sensors=null",
        "env.actions=[x]",
        "plugins=[tests.fakes]",
        "demos.episodes=2",
        "demos.noise=0",
    ]
    record(config.load([*quick, *fake], command="demos"))
    with pytest.raises(ConfigError, match=r"value_range: \[-0.1, 0.5\] .* of 1, which the demonstrations bring"):
        made(quick, tmp_path, *fake, "algorithm.value_range=[-0.1,0.5]")
