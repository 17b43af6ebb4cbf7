"""A critic of turns (ArCHer, arXiv 2402.19446) is no estimator of its own: held against its target, turn by turn.

Its target is the sum of a turn's rewards, and gamma times the value of what the next turn begins with.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sims  # noqa: F401  (registers the environments)
from vla_rl import config, envs
from vla_rl.actions import Binned, Chunk
from vla_rl.algorithms import losses
from vla_rl.data.decisions import fill
from vla_rl.data.files import Episode
from vla_rl.envs.shorthand import overrides_of
from vla_rl.replay import ReplayBuffer
from vla_rl.replay.batch import Batch
from vla_rl.rewards.credit import Credit, NStep, OneStep
from vla_rl.specs import IMAGES, STATE

GAMMA, LONGEST = 0.8, 9


def episodes(seed: int, count: int = 12) -> list[Episode]:
    """Episodes of random lengths and rewards, some cut short; the state tells the step."""
    rng, found = np.random.default_rng(seed), list[Episode]()
    for number, steps in enumerate(rng.integers(1, LONGEST + 1, count)):
        last = np.arange(steps) == steps - 1
        actions = rng.uniform(-1, 1, (steps, 1)).astype(np.float32)
        found.append(
            Episode(
                tasks=("go",) * (int(steps) + 1),
                seed=number,
                observations={
                    IMAGES + "front": np.zeros((steps + 1, 4, 4, 3), np.uint8),
                    STATE: np.stack([np.full(steps + 1, number), np.arange(steps + 1)], 1).astype(np.float32),
                },
                action=actions,
                label=actions,
                reward=rng.normal(size=steps).astype(np.float32),
                terminated=last & (number % 3 > 0),
                truncated=last & (number % 3 == 0),
            )
        )
    return found


def targets(shown: list[Episode], values: np.ndarray, credit: Credit, chunk: int = 1) -> dict[tuple[int, int], float]:
    """What `algorithm.credit` has the critic learn of each decision, by episode and step, where V is `values`."""
    from gymnasium.spaces import Box

    space = Binned(5) if chunk == 1 else Chunk(Binned(5), chunk)
    bound = space.bind(Box(-1, 1, (1,), np.float32))
    backup = credit.backup
    assert backup.n_step is not None
    assert backup.mc_weight is not None
    buffer = ReplayBuffer(
        512, {"front": (4, 4, 3)}, 2, len(bound.slots), choices=5, lanes=1, gamma=GAMMA, n_step=backup.n_step
    )
    fill(buffer, shown, bound)
    batch: Batch = buffer.transitions(buffer.sampleable_ids())
    ahead = torch.from_numpy(values[tuple(batch.next_observation[STATE].astype(int).T)])
    reward, discount, returns = (torch.from_numpy(each) for each in (batch.reward, batch.discount, batch.returns))
    found = losses.td_target(reward, discount, ahead, returns, backup.mc_weight)
    places = batch.observation[STATE].astype(int).tolist()
    return {(number, step): float(value) for (number, step), value in zip(places, found, strict=True)}


def of_turns(shown: list[Episode], values: np.ndarray, length: int, within: float) -> dict[tuple[int, int], float]:
    """The target of a critic of turns of `length` decisions, for each place that a turn begins at, as it is defined.

    within: the discount of a decision in a turn; a turn is discounted by gamma as a whole, or by its decisions.
    """
    found = {}
    for number, episode in enumerate(shown):
        for begin in range(0, len(episode), length):
            end = min(begin + length, len(episode))
            paid = sum(within**k * float(episode.reward[begin + k]) for k in range(end - begin))
            after = GAMMA if within == 1.0 else GAMMA ** (end - begin)
            goes_on = not episode.terminated[end - 1]
            found[number, begin] = paid + goes_on * after * float(values[number, end])
    return found


@pytest.mark.parametrize("seed", range(5))
def test_where_each_decision_is_a_turn_it_is_the_one_step_backup(seed: int) -> None:
    shown, values = episodes(seed), np.random.default_rng(seed).normal(size=(12, LONGEST + 1)).astype(np.float32)
    assert targets(shown, values, OneStep()) == pytest.approx(of_turns(shown, values, 1, GAMMA), abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("length", [2, 3, 4])
def test_where_a_turn_is_a_chunk_of_steps_it_is_the_chunked_backup(seed: int, length: int) -> None:
    shown, values = episodes(seed), np.random.default_rng(seed).normal(size=(12, LONGEST + 1)).astype(np.float32)
    found = targets(shown, values, OneStep(), chunk=length)
    assert found == pytest.approx(of_turns(shown, values, length, 1.0), abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("length", [2, 3, 4])
def test_where_a_turn_is_of_several_decisions_it_is_the_backup_of_as_many_steps(seed: int, length: int) -> None:
    shown, values = episodes(seed), np.random.default_rng(seed).normal(size=(12, LONGEST + 1)).astype(np.float32)
    found, expected = targets(shown, values, NStep(length)), of_turns(shown, values, length, GAMMA)
    assert expected.keys() <= found.keys()
    assert {place: found[place] for place in expected} == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["gui_flow", "gui_desk", "gui_calculator"])
def test_on_screens_a_turn_is_one_gesture_and_so_one_decision(name: str) -> None:
    """A gesture, and what the screen answers, are one step; nothing is decided in between."""
    run = config.load([*overrides_of([name]), "action_space.type=command"], command="audit")
    env = envs.factory(run, past=envs.Past())()
    tokens = envs.bind_tokens(run.action_space, env.action_space, run.plugins)
    env = envs.TokenEnv(env, tokens)
    env.reset(seed=300_000)
    for _ in range(3):
        action = env.get_wrapper_attr("expert_action")()
        *_, info = env.step(tokens.encode(action))
        assert info.get("steps", 1) == 1
    env.close()
