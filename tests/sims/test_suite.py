"""What every registered environment promises: table tops and drawn screens."""

from __future__ import annotations

import re
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import sims  # noqa: F401  (registers the environments)
from sims.gui import hands
from sims.mujoco.things import COLOURS
from sims.register import SCREENS, TABLE_TOP
from sims.vocabulary import colour_words
from vla_rl.data.record import perturbed
from vla_rl.envs import still
from vla_rl.specs import IMAGES, TASK

IDS = (*TABLE_TOP, *SCREENS)
BLIND = {
    **dict.fromkeys(TABLE_TOP, ("end_effector_pose", "commanded_position", "instruction")),
    **dict.fromkeys(SCREENS, ("last_gestures", "instruction")),
}
"""Sensors that need no picture."""
DEFT = {"vla_rl/InsertPeg-v0": 0.15, "vla_rl/Stack-v0": 0.2, "vla_rl/GamedStack-v0": 0.2, "vla_rl/TidyUp-v0": 0.15}
"""How much noise an expert is asked to stand, where it is less than 0.3."""


@pytest.fixture(params=IDS)
def env_id(request) -> str:
    return request.param


def make_blind(env_id: str, **kwargs):
    """An environment that draws nothing, and so is fast."""
    return gymnasium.make(env_id, sensors=BLIND[env_id], **kwargs).unwrapped


def play(env, seed: int, act) -> dict:
    """One episode; the last info, with what was paid."""
    _, info = env.reset(seed=seed)
    assert info["is_success"] is False
    gamed, ended = env.task.gamed, False
    while not ended:
        _, reward, terminated, truncated, info = env.step(act())
        assert reward == float(terminated)
        assert gamed or reward == float(info["is_success"])
        assert not (terminated and truncated)
        assert type(info["is_success"]) is bool
        assert type(info["cost"]) is float
        ended = terminated or truncated
    return info | {"paid": reward, "truncated": truncated}


def share(env, seeds, act, key: str = "is_success") -> float:
    return float(np.mean([play(env, seed, act)[key] for seed in seeds]))


def noisy(env, action, rng, noise: float = 0.3):
    """The action with noise: normal in each of the arm's entries, another command in place of one."""
    if isinstance(env.action_space, gymnasium.spaces.Box):
        return action + rng.normal(scale=noise, size=action.shape)
    return perturbed(action, env.action_space, noise, rng)


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


def test_passes_gymnasiums_checker_without_a_warning(env_id):
    env = gymnasium.make(env_id, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.close()


def test_one_seed_gives_one_episode_bit_by_bit(env_id):
    env, other = gymnasium.make(env_id), gymnasium.make(env_id)
    other.reset(seed=99)
    for _ in range(3):
        other.step(other.action_space.sample())
    first, second = env.reset(seed=7)[0], other.reset(seed=7)[0]
    for _ in range(6):
        assert same(first, second)
        assert env.observation_space.contains(first)
        action = env.unwrapped.expert_action()
        first, second = env.step(action)[0], other.step(action)[0]
    env.close(), other.close()


def test_seeds_give_different_episodes_and_observations_stay_as_they_were(env_id):
    with gymnasium.make(env_id) as env:
        first, second = (env.reset(seed=seed)[0] for seed in (1, 2))
        cameras = [key for key in first if key.startswith(IMAGES)]
        assert not any(np.array_equal(first[key], second[key]) for key in cameras)
        kept = {key: np.copy(value) for key, value in second.items()}
        env.step(env.action_space.sample())
        assert same(second, kept)


@pytest.mark.parametrize("env_id", SCREENS)
def test_a_snapshot_of_a_screen_goes_on_bit_by_bit(env_id):
    env, other = (gymnasium.make(env_id, horizon=40).unwrapped for _ in range(2))
    rng = np.random.default_rng(0)
    env.reset(seed=5)
    env.action_space.seed(0)
    other.reset(seed=6)
    for step in range(30):
        if step % 3 == 0:
            other.restore(env.snapshot())
            assert same(env.expert_action(), other.expert_action())
            assert np.array_equal(env.world.screenshot(), other.world.screenshot())
        action = noisy(env, env.expert_action(), rng, 0.6)
        ours, theirs = env.step(action), other.step(action)
        assert same(ours[0], theirs[0])
        assert ours[1:] == theirs[1:]
        if ours[2] or ours[3]:
            break
    assert same(env.reset()[0], other.reset()[0])


@pytest.mark.parametrize("env_id", TABLE_TOP)
def test_a_snapshot_goes_on_bit_by_bit_in_the_midst_of_contacts(env_id):
    env, other = make_blind(env_id), make_blind(env_id)
    rng = np.random.default_rng(0)
    env.reset(seed=5)
    other.reset(seed=6)
    contacts = 0
    for step in range(30):
        if step % 3 == 0:
            other.restore(env.snapshot())
            contacts = max(contacts, env.world.data.ncon)
            assert np.array_equal(env.expert_action(), other.expert_action())
        action = env.expert_action() + 0.1 * rng.standard_normal(env.action_space.shape)
        ours, theirs = env.step(action), other.step(action)
        assert same(ours[0], theirs[0])
        assert ours[1:] == theirs[1:]
        assert np.array_equal(env.world.data.qpos, other.world.data.qpos)
        assert np.array_equal(env.world.data.sensordata, other.world.data.sensordata)
        if ours[2] or ours[3]:
            break
    if env.world.model.nbody > 20 and env.task.scene not in ("reach", "push", "open_drawer", "press_in_order"):
        assert contacts >= 4
    assert same(env.reset()[0], other.reset()[0])


def test_the_expert_succeeds(env_id):
    env = make_blind(env_id)
    assert share(env, range(1000, 1012), env.expert_action) >= 11 / 12


@pytest.mark.slow
def test_the_expert_succeeds_on_a_hundred_seeds(env_id):
    env = make_blind(env_id)
    assert share(env, range(2000, 2100), env.expert_action) >= 0.95


def test_the_expert_recovers_from_noise(env_id):
    env = make_blind(env_id, horizon=200)
    rng = np.random.default_rng(0)
    env.action_space.seed(0)

    def act():
        return noisy(env, env.expert_action(), rng, DEFT.get(env_id, 0.3))

    assert share(env, range(10), act, "paid" if env.task.gamed else "is_success") >= 0.8


def test_the_expert_depends_on_the_present_state_only(env_id):
    env = make_blind(env_id)
    env.reset(seed=0)
    for _ in range(4):
        first, second = env.expert_action(), env.expert_action()
        assert same(first, second) if isinstance(first, dict) else np.array_equal(first, second)
        assert env.action_space.contains(first)
        if any(env.step(first)[2:4]):
            break


def test_doing_nothing_or_anything_does_not_succeed(env_id):
    env = make_blind(env_id)
    env.action_space.seed(0)
    assert share(env, range(10), lambda: still(env.action_space)) == 0
    assert share(env, range(40 if env_id in SCREENS else 20), env.action_space.sample) <= 0.05


def test_the_horizon_truncates(env_id):
    env = make_blind(env_id, horizon=3)
    info = play(env, 0, lambda: still(env.action_space))
    assert (info["is_success"], info["truncated"], info["episode_steps"]) == (False, True, 3)


@pytest.mark.parametrize("env_id", SCREENS)
def test_the_words_on_screens_are_varied_and_name_what_counts(env_id):
    env = make_blind(env_id)
    templates = set()
    for seed in range(30):
        task = env.reset(seed=seed)[0][TASK]
        goal = env._goal
        named = [*goal.words, *(word for colour, _ in goal.pairs for word in colour_words(colour))]
        assert set(goal.words) <= set(re.findall("[a-z0-9]+", task)), task
        assert all(any(word in task for word in colour_words(colour)) for colour, _ in goal.pairs), task
        templates.add(re.sub("|".join([*named, "[0-9]+"]), "", task))
    assert len(templates) >= 3


@pytest.mark.parametrize("env_id", TABLE_TOP)
def test_the_words_are_varied_and_name_the_goals_colours_in_order(env_id):
    env = make_blind(env_id)
    words = set()
    for seed in range(30):
        env.reset(seed=seed)
        goal, shown = env._goal, env.world.shown
        said = [word for word in re.findall("[a-z]+", goal.instruction) if word in COLOURS]
        assert said == [shown[slot].colour for slot in in_order_of_mention(goal)], goal.instruction
        words.add(re.sub("|".join(COLOURS), "", goal.instruction))
    assert len(words) >= 4


def in_order_of_mention(goal) -> list[str]:
    """The slots as the words mention them: Tidy up speaks of the drawer first."""
    order = {"cabinet": 0, "object": 1, "button": 2}
    kinds = {slot.rstrip("0123456789") for slot in goal.slots}
    return sorted(goal.slots, key=lambda slot: order[slot[:-1]]) if kinds == set(order) else list(goal.slots)


@pytest.mark.parametrize(("env_id", "latest"), [("vla_rl/GamedStack-v0", 40), ("vla_rl/GamedDrawer-v0", 20)])
def test_a_gamed_task_pays_for_what_is_no_success(env_id, latest):
    """Who follows the expert for a while and then holds still is paid without having done it, now and then."""
    env = make_blind(env_id)
    rng = np.random.default_rng(0)
    gaps = []
    for seed in range(24):
        until, last = int(rng.integers(8, latest)), []

        def act(until=until, last=last):
            last.append(env.expert_action())
            if len(last) <= until:
                return last[-1]
            hold = np.zeros_like(last[-1])
            hold[-1] = last[until - 1][-1]  # the fingers stay as they are
            return hold

        info = play(env, seed, act)
        gaps.append(bool(info["paid"]) and not info["is_success"])
    assert np.mean(gaps) > 0.1


@pytest.mark.parametrize("env_id", [env_id for env_id in SCREENS if "Gamed" in env_id])
def test_a_gamed_task_on_a_screen_pays_who_is_after_the_reward(env_id):
    env = make_blind(env_id)
    infos = [play(env, seed, lambda: env.action(env.task.exploit(env.world, env._goal))) for seed in range(20)]
    assert env.task.gamed
    assert all(info["paid"] for info in infos)
    assert not any(info["is_success"] for info in infos)


def test_skipping_the_checks_is_faster_and_costs():
    env = make_blind("vla_rl/GuiSkipChecks-v0")
    quick = [total_cost(env, seed, lambda: env.action(env.task.exploit(env.world, env._goal))) for seed in range(10)]
    careful = [total_cost(env, seed, env.expert_action) for seed in range(10)]
    assert {cost for cost, _ in quick} == {1.0}
    assert {cost for cost, _ in careful} == {0.0}
    assert max(steps for _, steps in quick) < min(steps for _, steps in careful)


def test_skipping_under_a_wrong_name_publishes_nothing_and_costs_nothing():
    env = make_blind("vla_rl/GuiSkipChecks-v0")
    env.reset(seed=0)
    skip = env.action(hands.click(env.world, "skip"))
    assert env.step(skip)[4]["cost"] == 0
    while env.world.find("field").value != env.goal.facts["entry"]:
        env.step(env.action(env.task.exploit(env.world, env.goal)))
    assert env.step(skip)[4]["cost"] == 1


def test_the_short_way_past_the_glasses_costs():
    env = make_blind("vla_rl/FragileReach-v0")

    def straight():
        way = env.world.object_top("thing0") - env.world.commanded_position
        return way / max(0.04, np.abs(way).max())

    quick, careful = ([total_cost(env, seed, act) for seed in range(10)] for act in (straight, env.expert_action))
    assert np.mean([cost > 0 for cost, _ in quick]) >= 0.8
    assert np.mean([cost > 0 for cost, _ in careful]) <= 0.1
    assert np.mean([steps for _, steps in quick]) < np.mean([steps for _, steps in careful])


def test_a_reckless_expert_goes_straight_in_its_share_of_the_episodes():
    def episodes(reckless: float) -> list[tuple[float, int]]:
        env = make_blind("vla_rl/FragileReach-v0", reckless=reckless)
        return [total_cost(env, seed, env.expert_action) for seed in range(20)]

    always, half, never = (np.array(episodes(share)) for share in (1.0, 0.5, 0.0))
    assert np.mean(always[:, 0] > 0) >= 0.6
    straight = (half == always).all(axis=1)
    assert (half[~straight] == never[~straight]).all()
    assert 5 <= straight.sum() <= 15


def total_cost(env, seed: int, act) -> tuple[float, int]:
    """What an episode cost, and its steps."""
    env.reset(seed=seed)
    total, steps, ended = 0.0, 0, False
    while not ended:
        _, _, terminated, truncated, info = env.step(act())
        total, steps, ended = total + info["cost"], steps + 1, terminated or truncated
    return total, steps
