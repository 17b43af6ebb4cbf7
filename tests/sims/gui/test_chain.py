"""The chain: what it takes, what no trivial rule gets, and what each act contributes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.gui import chains
from sims.gui.chains import ACTS, State, chance, contribution
from sims.gui.controls import Button, Link
from sims.screen.interaction import Gesture
from vla_rl.specs import TASK

Rule = Callable[[Any, str, np.random.Generator], Gesture]


def chain(**kwargs: Any) -> Any:
    return gymnasium.make("vla_rl/GuiChain-v0", sensors=["instruction", "answer"], **kwargs).unwrapped


def shown(env: Any) -> list[str]:
    """The words on the buttons."""
    return [placed.widget.name for placed in env.world.placed() if type(placed.widget) is Button]


def press(env: Any, name: str) -> Gesture:
    return Gesture("click", at=env.world.where(name).middle)


def any_named(env: Any, text: str, rng: np.random.Generator) -> Gesture:
    """Press a button that the instruction names; where there is none, wait."""
    named = [word for word in shown(env) if word in text.split("; leave")[0]]
    return press(env, str(rng.choice(named))) if named else Gesture("wait")


def earliest(env: Any, text: str, rng: np.random.Generator) -> Gesture:
    """Of those, the one that is named first."""
    return press(env, min(shown(env), key=text.index)) if shown(env) else Gesture("wait")


def answered(env: Any, text: str, rng: np.random.Generator) -> Gesture:
    """Look the code up; press what the answer says where it is there, else any."""
    code, answer = re.search(r"look up (\w+)", text), re.search(r"\n\w+ is (\w+)$", text)
    if code and not answer:
        return Gesture("lookup", text=code[1])
    return press(env, answer[1]) if answer and answer[1] in shown(env) else any_named(env, text, rng)


def remembering(env: Any, text: str, rng: np.random.Generator) -> Gesture:
    """Count the buttons that were pressed, and press the one that is named next."""
    code, answer = re.search(r"look up (\w+)", text), re.search(r"\n\w+ is (\w+)$", text)
    if code and not answer:
        return Gesture("lookup", text=code[1])
    steps = re.split(r",(?: then)? ", text.split(";")[0])
    word = steps[sum(gesture.kind == "click" for gesture in env.world.gestures)].split()[-1]
    return press(env, answer[1] if answer and code and word == code[1] else word)


def won(env: Any, rule: Rule, episodes: int) -> float:
    """How often a rule succeeds."""
    rng, wins = np.random.default_rng(0), 0
    for seed in range(episodes):
        text, ended = env.reset(seed=seed)[0][TASK], False
        while not ended:
            seen, _, terminated, truncated, info = env.step(env.action(rule(env, text, rng)))
            text, ended = seen[TASK], terminated or truncated
        wins += info["is_success"]
    return wins / episodes


@pytest.mark.parametrize("rule", [any_named, earliest, answered])
@pytest.mark.parametrize("steps", [3, 4, 8, 12])
def test_no_rule_that_remembers_nothing_solves_a_chain(steps: int, rule: Rule) -> None:
    """Of three buttons, all named, one is right: 1 in 3 ** steps (of two where there are but two words)."""
    assert won(chain(steps=steps, horizon=steps + 2), rule, 50) <= 2 * (1 / 3 if steps > 3 else 1 / 2) ** steps + 0.03


@pytest.mark.parametrize("steps", [3, 4, 8, 12])
def test_who_counts_and_looks_up_solves_every_chain(steps: int) -> None:
    assert won(chain(steps=steps, horizon=steps + 2), remembering, 10) == 1


def test_a_trail_tells_what_was_done_and_nothing_else_is_easier() -> None:
    def following(env: Any, text: str, rng: np.random.Generator) -> Gesture:
        """Press what the text names after the word in the title."""
        words = [part.split()[-1] for part in re.split(r",(?: then)? ", text.split(";")[0])]
        last = env.world.find("window").text.lower()
        word = words[words.index(last) + 1 if last in words[:-1] else 0]
        return press(env, word) if word in shown(env) else Gesture("wait")

    env = chain(steps=6, codes=0, trail=True)
    assert won(env, following, 10) == 1
    assert won(env, any_named, 50) <= 0.04
    assert won(chain(steps=6, codes=0), following, 5) == 0


def test_every_button_and_every_link_is_named() -> None:
    env = chain(steps=6, codes=2, asides=4)
    for seed in range(5):
        text, ended = env.reset(seed=seed)[0][TASK], False
        titles = set()
        while not ended:
            links = [placed.widget.text.lower() for placed in env.world.placed() if type(placed.widget) is Link]
            assert len(shown(env)) == 3
            assert all(re.search(rf"\b{word}\b", text.split("leave")[0]) for word in shown(env))
            assert all(re.search(rf"\b{word}\b", text.split("leave")[1]) for word in links)
            titles.add(env.world.find("window").text)
            *_, ended, _, _ = env.step(env.expert_action())
        assert len(titles) == 1  # no window tells which step it is


def test_a_wrong_button_leads_on_as_the_right_one_does_and_is_never_made_good() -> None:
    env, other = chain(codes=0), chain(codes=0)
    for each in (env, other):
        each.reset(seed=3)
    right, wrong, *_ = env.goal.facts["steps"][0]
    seen = [each.step(each.action(press(each, word)))[0] for each, word in ((env, right), (other, wrong))]
    assert seen[0] == seen[1]
    assert [placed.widget.name for placed in env.world.placed()] == [p.widget.name for p in other.world.placed()]
    truncated = False
    while not truncated:
        _, reward, terminated, truncated, _ = other.step(other.expert_action())
        assert (reward, terminated) == (0, False)
    assert shown(other) == []


def test_a_code_stands_for_a_word_that_is_named_for_another_step() -> None:
    env = chain(steps=5, codes=1)
    for seed in range(20):
        text = env.reset(seed=seed)[0][TASK]
        (code,), (step,) = env.goal.facts["codes"], env.goal.facts["coded"]
        assert env.goal.facts["steps"][step][0] in text.split("; look up")[0]
        assert env.goal.facts["steps"][step][0] != code
        seen, *_, info = env.step(env.action(Gesture("lookup", text=code)))
        assert seen[TASK].endswith(f"{code} is {env.goal.facts['steps'][step][0]}")
        assert info["cost"] == 0.02


def test_what_does_not_go_together_is_named() -> None:
    with pytest.raises(ValueError, match=r"codes must lie in \[0, 0\], got 1"):
        chain(steps=2)
    assert won(chain(steps=2, codes=0), remembering, 3) == 1


CHAINS = [
    chains.Chain(2, 1, 0),
    chains.Chain(3, 2, 1, codes=(1,)),
    chains.Chain(2, 1, 3, slip=0.2),
    chains.Chain(3, 2, 0, codes=(0, 2), slip=0.3),
    chains.Chain(1, 1, 1, slip=0.5),
]


@pytest.mark.parametrize("made", CHAINS)
def test_chances_are_those_of_a_simulation(made: chains.Chain) -> None:
    rng = np.random.default_rng(0)
    for first in (State(0, True, 7), State(made.length - 1, False, 5), State(made.length - 1, True, 3)):
        wins = 0
        for _ in range(1500):
            state = first
            while state.left and state.step < made.length:
                state = state.after(made, ACTS[int(rng.choice(4, p=made.odds(state)))])
            wins += state.clean and state.step == made.length
        assert chance(made, first) == pytest.approx(wins / 1500, abs=0.045)


def test_chances_of_chains_that_can_be_told_by_hand() -> None:
    made = chains.Chain(2, wrong=1, asides=0)
    assert chance(made, State(0, True, 1)) == 0
    assert chance(made, State(0, True, 2)) == 0.25
    assert chance(made, State(1, True, 1)) == 0.5
    assert chance(made, State(1, False, 3)) == 0
    sure = chains.Chain(2, wrong=2, asides=0, codes=(1,), slip=0)
    assert chance(sure, State(0, True, 2)) == pytest.approx(1 / 3)  # the code is guessed
    looked = State(0, True, 3).after(sure, "look")
    assert contribution(sure, State(0, True, 3), looked) == pytest.approx(2 / 3)


@pytest.mark.parametrize("made", CHAINS)
def test_contributions_of_the_reference_average_to_nothing(made: chains.Chain) -> None:
    for state in (State(0, True, 9), State(made.length - 1, True, 5), State(0, False, 8)):
        acts = [contribution(made, state, state.after(made, act)) for act in ACTS]
        assert np.dot(made.odds(state), acts) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("steps", "codes", "reference"), [(2, 0, "uniform"), (4, 2, "slips"), (12, 3, "slips")])
def test_contributions_sum_to_what_came_of_it(steps: int, codes: int, reference: str) -> None:
    rng = np.random.default_rng(0)
    env = chain(steps=steps, codes=codes, reference=reference, contributions=True)
    for seed in range(4):
        env.reset(seed=seed)
        first, total, ended = chance(env.task.chain(env.goal), env.task.state(env.world)), 0.0, False
        while not ended:
            known = env.task.contributions_of(env.world, env.goal)
            name = str(rng.choice(list(known)))
            gesture = Gesture("lookup", text=name) if name in env.goal.facts["codes"] else press_or_wait(env, name)
            act = env.task.expert(env.world, env.goal) if seed == 0 else gesture
            _, reward, terminated, truncated, info = env.step(env.action(act))
            if seed:
                assert info["contribution"] == pytest.approx(known[name], abs=1e-12)
            total, ended = total + info["contribution"], terminated or truncated
        assert total == pytest.approx(reward - first, abs=1e-9)
        assert reward == 1 or seed


def press_or_wait(env: Any, name: str) -> Gesture:
    return Gesture("wait") if name == "wait" else press(env, name)


def test_every_other_link_costs() -> None:
    env = chain(asides=2)
    env.reset(seed=0)
    costs = [env.step(env.action(press(env, name)))[4]["cost"] for name in ("aside0", "aside1")]
    assert costs == [0, 0.1]


def test_contributions_are_told_only_where_they_are_asked_for() -> None:
    assert "contribution" not in gymnasium.make("vla_rl/GuiChain-v0").reset(seed=0)[1]
