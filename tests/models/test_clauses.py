"""What texts say clause by clause: which words stand together, which numbers are said there, and who can read that."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from vla_rl.actions import Binned
from vla_rl.algorithms.configs import PaRl
from vla_rl.algorithms.critic import make_critic
from vla_rl.config.policy import HeadSettings, PolicySettings
from vla_rl.models.clauses import EXTRA, LEAST, MOST, NUMBERS, clauses_of, number_code
from vla_rl.models.features import Features
from vla_rl.models.policy import Policy
from vla_rl.models.settings import Pretrained
from vla_rl.specs import TASK, words_of

TEXT = "open the file red; pay at most 30 cents; cube: says where, 2.5 cents, lies 1 in 4\nno, row 2. Go on!"
PRICES = (2, 5, 10, 20, 40)


@pytest.fixture(scope="module")
def policy(random_backbone: Path) -> Policy:
    head = HeadSettings(reads=("pointers", "words", "clauses"), width=32, clauses=6)
    space = Binned(3).bind(gymnasium.spaces.Box(-1, 1, (1,)))
    return Policy.build(PolicySettings(Pretrained(str(random_backbone)), head), space, ["front"], 0, seed=0)


def seen(texts: list[str]) -> dict[str, object]:
    return {"observation.images.front": np.zeros((len(texts), 64, 64, 3), np.uint8), TASK: texts}


def test_each_word_is_of_the_one_clause_that_it_stands_in() -> None:
    found = clauses_of(TEXT)
    said = [TEXT[a:b].strip() for a, b in found]
    assert said[:2] == ["open the file red;", "pay at most 30 cents;"]
    assert said[2:] == ["cube: says where, 2.5 cents, lies 1 in 4", "no, row 2.", "Go on!"]
    for start, _ in words_of(TEXT):
        assert sum(a <= start < b for a, b in found) == 1
    assert clauses_of("") == []


@pytest.mark.parametrize("number", [0.05, 1, 2, 3, 5, 10, 20, 40, 1000])
def test_the_logarithm_of_a_number_is_linear_in_its_code(number: float) -> None:
    code = number_code([number]).view(NUMBERS, -1)
    assert float(code[0, :-1] @ torch.arange(LEAST, MOST + 1.0)) == pytest.approx(np.log2(number), abs=1e-5)
    assert float(code[0, :-1].sum()) == pytest.approx(1)
    assert not code[1:].any()


def test_a_number_of_zero_is_not_one_that_is_not_there() -> None:
    assert number_code([0]).any()
    assert not number_code([]).any()


def test_a_word_knows_the_numbers_of_its_clause_and_of_no_other(policy: Policy) -> None:
    features = policy.ground(seen([TEXT, TEXT.replace("30", "70")]))
    words = [TEXT[a:b] for a, b in words_of(TEXT)]
    codes = features.worded[..., -EXTRA + 2 :]
    cube, pay = words.index("cube"), words.index("pay")
    assert torch.equal(codes[0, cube], number_code([2.5, 1, 4]))
    assert torch.equal(codes[0, cube], codes[1, cube])
    assert torch.equal(codes[:, pay], torch.stack([number_code([30]), number_code([70])]))


def test_what_a_clause_says_does_not_depend_on_its_label(policy: Policy) -> None:
    texts = ["cube: points at red", "sphere: points at red", "points at red", "cube: points at blue", "cube:"]
    features = policy.ground(seen(texts))
    assert features.clauses is not None
    first = features.clauses[:, 0]
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[3])
    assert not torch.equal(first[0], first[4])


def test_what_lies_beyond_the_last_clause_that_is_read_says_nothing(policy: Policy) -> None:
    text = "; ".join(["red 3"] * 7)
    features = policy.ground(seen([text]))
    assert features.clauses is not None
    assert features.clauses.shape == (1, 6, policy.trunk.backbone.hidden_size + EXTRA)
    assert features.worded[0, 11, -EXTRA:].any()
    assert not features.worded[0, 12:14, -EXTRA:].any()


def test_features_come_back_from_replay_as_they_were(policy: Policy) -> None:
    features = policy.ground(seen([TEXT, "reach the cube", ""]))
    packed = features.pack()
    assert {name: (value.shape[1:], str(value.dtype)) for name, value in packed.items()} == policy.cached_features()
    again = Features.unpack(packed, {})
    assert again.clause_of is not None
    assert torch.equal(again.clause_of, features.clause_of)
    for one, other in zip(policy.logits(features), policy.logits(again), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_clauses_are_read_without_words_too(random_backbone: Path) -> None:
    space = Binned(3).bind(gymnasium.spaces.Box(-1, 1, (1,)))
    head = HeadSettings(reads=("pointers", "clauses"), width=32)
    alone = Policy.build(PolicySettings(Pretrained(str(random_backbone)), head), space, ["front"], 0, seed=0)
    features = alone.ground(seen(["red, 2 cents", "red, 40 cents"]))
    packed = features.pack()
    assert {name: (value.shape[1:], str(value.dtype)) for name, value in packed.items()} == alone.cached_features()
    cheap, dear = alone.logits(features)[0]
    assert not torch.allclose(cheap, dear)


def test_a_saved_policy_decides_alike(policy: Policy, tmp_path: Path) -> None:
    policy.save_pretrained(tmp_path)
    loaded, asked = Policy.from_pretrained(tmp_path), seen([TEXT])
    for one, other in zip(policy.logits(policy.encode(asked)), loaded.logits(loaded.encode(asked)), strict=True):
        assert torch.equal(one, other)


def test_a_critic_learns_what_a_stated_price_is_worth(policy: Policy) -> None:
    """By its own clause: what another one states, which comes first or last, does not matter."""
    rng = np.random.default_rng(0)
    told = rng.choice(PRICES, (80, 2))
    texts = ["; ".join([f"cube, {own} cents", f"red, {other} cents"][:: rng.choice([-1, 1])]) for own, other in told]
    features, worth = policy.ground(seen(texts)), torch.from_numpy(1 - told[:, 0] / 50).float()
    torch.manual_seed(0)
    critic = make_critic(PaRl(critic_width=64), policy)
    tokens, optimizer = torch.zeros(len(texts), 1, 1, dtype=torch.int64), torch.optim.Adam(critic.parameters(), 3e-3)
    readout = policy.readout(features)

    def told_by_critic() -> torch.Tensor:
        return critic.value(critic(readout, tokens, features)).mean(0).squeeze(1)

    for _ in range(150):
        optimizer.zero_grad()
        (told_by_critic()[:60] - worth[:60]).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        assert (told_by_critic()[60:] - worth[60:]).abs().mean() < 0.1


def test_what_reads_clauses_has_to_say_how_many() -> None:
    with pytest.raises(ValueError, match="clauses"):
        HeadSettings(reads=("pointers", "clauses"), clauses=0)
