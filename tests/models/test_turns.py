"""What was done in turns, told by the words of a text: held against a plain loop; asked of pointers; read by a head."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, Random, observation

from sims.screen.interaction import Interaction
from vla_rl.actions import Command
from vla_rl.algorithms.critic import Critic
from vla_rl.config.policy import HeadSettings, PolicySettings
from vla_rl.models.features import Features
from vla_rl.models.heads import ActionHead
from vla_rl.models.pointers import SLOTS
from vla_rl.models.policy import Policy
from vla_rl.models.progress import at_points
from vla_rl.models.readout import Readout
from vla_rl.models.turns import (
    ASKED,
    EXTENT,
    FADES,
    FIELDS,
    LINES,
    MARGIN,
    NAMED,
    SAID,
    SEEN,
    placed,
    said,
    shape,
    through,
    updated,
)
from vla_rl.specs import REMEMBERED, TASK, Slot, words_of


def seen(steps: int, rows: int, cameras: int, words: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """What words name [T, B, C, W, NAMED], and hands [T, B, C, 3], often at one of those things."""
    rng = np.random.default_rng(seed)
    named = rng.uniform(0, 1, (steps, rows, cameras, words, NAMED)).astype(np.float32)
    named[..., :2] = named[..., :2] * 2 - 1
    named[..., 2:4] *= 0.2
    named[..., SEEN] = np.arange(1, words + 1)
    hand = rng.uniform(0, 1, (steps, rows, cameras, 3)).astype(np.float32)
    hand[1:, ..., :2] = named[:-1, :, :, 0, :2]
    return torch.from_numpy(named), torch.from_numpy(hand)


def test_it_is_what_a_plain_loop_keeps() -> None:
    named, hand = seen(9, 2, 2, 5)
    kept = torch.zeros(2, *shape(2, 5))
    for now in zip(named, hand, strict=True):
        kept = updated(kept, *now)
    for row, camera, word in np.ndindex(2, 2, 5):
        done = lately = ever = shown = 0.0
        for step in range(9):
            x, y, wide, high, sure = named[step - 1, row, camera, word, :5].tolist()
            to_x, to_y, told = hand[step, row, camera].tolist()
            off = ((to_x - x) / (wide + MARGIN)) ** 2 + ((to_y - y) / (high + MARGIN)) ** 2
            done = float(np.exp(-off / 2)) * sure * told if step else 0.0
            lately, ever = max(FADES * lately, done), max(ever, done)
            shown = max(shown, float(named[step, row, camera, word, 5]))
        wanted = [*named[-1, row, camera, word].tolist(), done, lately, ever, shown]
        np.testing.assert_allclose(kept[row, camera, word], wanted, atol=1e-5)
    assert (kept[..., 0, NAMED + 2] > 0.05).all()
    torch.testing.assert_close(through(torch.zeros(1, *shape(2, 5)), named[:, 1], hand[:, 1])[-1], kept[1])


def test_what_was_done_follows_the_word() -> None:
    """Lines below a task's own change from turn to turn, so that a word stands elsewhere, or not at all."""
    named, hand = seen(2, 1, 1, 4)
    named[0, 0, 0, :, SEEN] = torch.tensor([7.0, 8.0, 9.0, 0.0])
    named[1, 0, 0, :, SEEN] = torch.tensor([9.0, 5.0, 7.0, 7.0])
    before = updated(torch.zeros(1, *shape(1, 4)), named[0], hand[0])
    before[0, 0, :, NAMED:] = torch.tensor([[0, 0.5, 0.75, 0.9], [0, 0.1, 0.2, 0.3], [0, 0, 0, 0.8], [1, 1, 1, 1]])
    hand[1, ..., 2] = 0  # it is nowhere now
    after = updated(before, named[1], hand[1])[0, 0, :, NAMED:]
    match = named[1, 0, 0, :, SEEN - 1]
    wanted = [[0, 0, 0, 0.8], [0, 0, 0, 0], [0, 0.3, 0.75, 0.9], [0, 0.3, 0.75, 0.9]]
    torch.testing.assert_close(after[:, :3], torch.tensor(wanted)[:, :3])
    torch.testing.assert_close(after[:, 3], torch.maximum(torch.tensor(wanted)[:, 3], match))


def test_a_text_tells_which_words_stand_in_which_lines() -> None:
    told = said("plan red, then red\nnoted: plan\nshown: Red, next", 12)
    number, own, echoed, _ = np.split(told, [1, 1 + LINES, 1 + 2 * LINES], axis=1)
    words = ["plan", "red", "then", "red", "noted", "plan", "shown", "red", "next"]
    assert (told[len(words) :] == 0).all()
    for i, j in np.ndindex(len(words), len(words)):
        assert (number[i] == number[j]) == (words[i] == words[j])
    assert own.argmax(1)[: len(words)].tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2]
    assert [set(np.flatnonzero(row)) for row in echoed[: len(words)]] == [
        {1}, {0, 2}, set(), {0, 2}, set(), {0}, set(), {0}, set()
    ]  # fmt: skip
    assert not said("", 3).any()


def test_a_text_tells_how_much_of_its_first_line_another_one_repeats() -> None:
    told = said("compute 1 1 + 1 7\nentered: 1 1 * 1", 16)
    in_turn = told[:, 1 + 2 * LINES :]
    assert in_turn.shape[1] == LINES
    assert told.shape[1] == SAID
    #  compute 1 1 + 1 7 / entered 1 1 * 1
    assert in_turn[:6, 1].tolist() == [0, 1, 1, 0.5, 1, 0]
    assert in_turn[6:11, 0].tolist() == [0, 1, 1, 0, 1]
    signs = said("what is 9 plus 6\nentered: 9 +\nshown: 7 8 9", 16)[:, 1 + 2 * LINES :]
    assert signs[:5, 1].tolist() == [0, 0, 1, 0.5, 0]
    assert signs[:5, 2].tolist() == [0, 0, 1, 0, 0]
    further = said("\n".join("abcdefg"), 16)
    assert further[:7, 1 : 1 + LINES].argmax(1).tolist() == [0, 1, 2, 3, 4, 4, 4]


def test_a_text_tells_where_its_words_stand() -> None:
    told = placed("press 7, then 8 <a,b>\nshown: 7 <25,50>, 8 <100,0>, 7 <75,50>, 9,1 <7,\n<10,10>", 20)
    words = ["press", "7", "then", "8", "a,b", "shown", "7", "25,50", "8", "100,0", "7", "75,50", "9,1", "7", "10,10"]
    known = {1: (-0.5, 0), 3: (1, -1), 6: (-0.5, 0), 8: (1, -1), 10: (0.5, 0), 13: (-0.5, 0)}
    assert [number for number in range(20) if told[number, 0]] == list(known)
    for number, place in known.items():
        assert told[number].tolist() == [1, *place], words[number]
    assert not told[len(words) :].any()


def test_a_pointer_is_not_asked_where_a_text_tells() -> None:
    policy, here = make(), observation(1)
    here[TASK] = ["press save\nshown: save <75,50>"]
    kept = policy.ground(here).remembered[0, 0]
    for word in (1, 3):  # save, and save below
        assert kept[word, :SEEN].tolist() == pytest.approx([0.5, 0, EXTENT, EXTENT, 1, 1])
    here[TASK] = ["press save\nshown: save"]
    assert policy.ground(here).remembered[0, 0, 1, 0] != 0.5


def make(family: str = "idefics3", **settings: Any) -> Policy:
    wanted = PolicySettings(Random(family), HeadSettings(width=32, words=6), remembers="turns", **settings)
    return Policy.build(wanted, bound(), ("front",), 3, seed=0)


def bound() -> Command:
    space = Interaction().space((32, 32))
    return Command(camera="front", grid=(4, 4)).bind(space)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pointer_is_asked_for_every_word_by_itself(family: str) -> None:
    policy, here = make(family), observation(3)
    here[TASK] = ["press save, then mail", "amber", ""]
    features = policy.ground(here)
    kept = features.remembered
    assert kept.shape == (3, *policy.remembered_shape) == (3, 1, 6, FIELDS)
    assert (kept[..., NAMED : NAMED + 3] == 0).all()
    trunk = policy.trunk
    for row, text in enumerate(here[TASK]):
        words = [text[begin:end] for begin, end in words_of(text)]
        assert (kept[row, :, len(words) :] == 0).all()
        for number, word in enumerate(words):
            slot = trunk.backbone.read([ASKED.format(word)])[:, :1]
            alone = trunk.pointers(slot, features.visual[row : row + 1], trunk.backbone.grid)
            torch.testing.assert_close(kept[row, 0, number, :2], alone.places_BVS2[0, 0, 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("train", ["head", "all"])
def test_step_by_step_and_at_once_are_the_same(train: str) -> None:
    policy, whole = make(train=train), observation(6)
    whole[TASK] = ["press save, then mail"] * 6
    at_once = policy.ground_episode(whole).remembered
    noted: np.ndarray | None = None
    for time in range(6):
        here = {key: value[time : time + 1] for key, value in whole.items()}
        features = policy.encode(here if noted is None else here | {REMEMBERED: noted})
        torch.testing.assert_close(features.remembered, at_once[time : time + 1], rtol=1e-4, atol=1e-4)
        assert not features.remembered.requires_grad
        noted = features.noted
    assert (at_once[-1, 0, :4, NAMED + 2] > 0).any()


def test_a_policy_reads_it_and_is_saved_with_it(tmp_path: Path) -> None:
    policy, here = make(), observation(4)
    here[TASK] = ["press save, then mail"] * 4
    first = policy.ground(here)
    noted = {REMEMBERED: np.random.default_rng(0).uniform(0, 1, first.remembered.shape).astype(np.float32)}
    noted[REMEMBERED][..., SEEN] = first.remembered[..., SEEN]
    fresh, knowing = policy.logits(first), policy.logits(policy.ground(here | noted))
    assert not torch.allclose(fresh[0], knowing[0])
    assert not torch.equal(policy.readout.raw(first), policy.readout.raw(policy.ground(here | noted)))
    policy.save_pretrained(tmp_path)
    again = Policy.from_pretrained(tmp_path)
    assert again.settings.remembers == "turns"
    for a, b in zip(knowing, again.logits(again.ground(here | noted)), strict=True):
        torch.testing.assert_close(a, b)
    packed = policy.ground(here | noted).pack()
    assert {name: (value.shape[1:], value.dtype) for name, value in packed.items()} == policy.cached_features()


def chains(rows: int, words: int, seed: int) -> tuple[Features, torch.Tensor]:
    """Screens with a button for each word, of which the first few have been pressed in order; and the next one's cell.

    All are shown, so that nothing but what was done tells which is next.
    """
    rng = np.random.default_rng(seed)
    cells = np.stack([rng.permutation(16)[:words] for _ in range(rows)])
    done = rng.integers(0, words, rows)
    kept = np.zeros((rows, 1, words, FIELDS), np.float32)
    kept[..., 0], kept[..., 1] = cells[:, None] % 4 / 2 - 0.75, cells[:, None] // 4 / 2 - 0.75
    kept[..., 2:4], kept[..., 4:6] = 0.1, 0.9
    kept[..., SEEN] = np.arange(1, words + 1)
    for row, count in enumerate(done):
        for turn in range(count):
            kept[row, 0, turn, NAMED:] = float(turn == count - 1), FADES ** (count - 1 - turn), 1, 0.9
    empty = {"places": (SLOTS, 2), "extents": (SLOTS, 2), "confidence": (SLOTS,), "state": (0,)}
    features = Features(
        **{name: torch.zeros(rows, *size) for name, size in empty.items()},
        words=torch.from_numpy(rng.normal(size=(rows, words, 16)).astype(np.float32)),
        word_mask=torch.ones(rows, words, dtype=torch.bool),
        visual=torch.zeros(rows, 1, 16, 8),
        cells=torch.full((rows, SLOTS, 16), -np.log(16.0)),
        remembered=torch.from_numpy(kept),
    )
    return features, torch.from_numpy(cells[np.arange(rows), done])


def test_a_head_learns_what_comes_after_what_was_done() -> None:
    torch.manual_seed(0)
    readout = Readout(("screen",), 1, 0, told=True)
    slots = (Slot(16, "place", (4, 4), "screen"),)
    head = ActionHead(HeadSettings(width=32), slots, readout.size, 8, [0], (4, 4), told=1)
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    shown, wanted = chains(200, 5, seed=1)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(head(readout(shown), shown)[0], wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    new, right = chains(200, 5, seed=2)
    assert (head(readout(new), new)[0].argmax(-1) == right).float().mean() > 0.9


def options(rows: int, seed: int) -> tuple[Features, torch.Tensor]:
    """Screens with three options, of which the first line names one; and that one's cell. Only the text tells it."""
    rng = np.random.default_rng(seed)
    names = [f"w{number}" for number in range(12)]
    drawn = np.stack([rng.permutation(12)[:5] for _ in range(rows)])
    texts = [f"take {names[d[0]]} {names[d[4]]}\nshown: {' '.join(names[i] for i in sorted(d[:3]))}" for d in drawn]
    cells = np.stack([rng.permutation(16)[:7] for _ in range(rows)])
    features, _ = chains(rows, 7, seed=0)
    kept = np.zeros((rows, 1, 7, FIELDS), np.float32)
    kept[..., SEEN:NAMED] = np.stack([said(text, 7) for text in texts])[:, None]
    kept[..., 0], kept[..., 1] = cells[:, None] % 4 / 2 - 0.75, cells[:, None] // 4 / 2 - 0.75
    kept[..., 2:4], kept[:, :, 4:, 4] = 0.1, 0.9
    features.remembered = torch.from_numpy(kept)
    features.words = torch.zeros(rows, 7, 16)
    place = [4 + sorted(d[:3]).index(d[0]) for d in drawn]
    return features, torch.from_numpy(cells[np.arange(rows), place])


def test_a_head_learns_which_word_of_one_line_another_line_names() -> None:
    torch.manual_seed(0)
    readout = Readout(("screen",), 1, 0, told=True)
    head = ActionHead(HeadSettings(width=32), (Slot(16, "place", (4, 4), "screen"),), readout.size, 8, [0], (4, 4), 1)
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    shown, wanted = options(200, seed=1)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(head(readout(shown), shown)[0], wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    new, right = options(200, seed=2)
    assert (head(readout(new), new)[0].argmax(-1) == right).float().mean() > 0.9


def test_a_critic_learns_what_it_is_worth_to_press_what_is_named() -> None:
    torch.manual_seed(0)
    readout = Readout(("screen",), 1, 0, told=True)
    slots = (Slot(16, "place", (4, 4), "screen"),)
    critic = Critic(readout.size, slots, [0], 8, (4, 4), width=64, told=1)
    optimizer = torch.optim.Adam(critic.parameters(), 3e-3)
    shown, wanted = options(200, seed=1)
    cells = torch.arange(16).view(1, 16, 1)

    def worth(seen: Features) -> torch.Tensor:
        return critic.value(critic(readout(seen), cells.expand(len(seen), -1, -1), seen)).mean(0)

    for _ in range(80):
        loss = (worth(shown) - torch.nn.functional.one_hot(wanted, 16)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    new, right = options(200, seed=2)
    assert (worth(new).argmax(-1) == right).float().mean() > 0.9


def test_a_place_is_told_by_the_words_whose_things_are_there() -> None:
    features, _ = chains(2, 3, seed=0)
    features.remembered[:, 0, :, 0:2] = torch.tensor([[-0.5, -0.5], [0.5, 0.5], [0.5, 0.5]])
    read = torch.eye(3).expand(2, 3, 3)
    points = torch.tensor([[[-0.5, -0.5], [0.5, 0.5], [0.5, -0.5]]]).expand(2, 3, 2)
    told = at_points(features, read, 0, points)
    torch.testing.assert_close(told[0, 0], torch.tensor([0.9, 0.0, 0.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(told[1, 1], torch.tensor([0.0, 0.9 / 1.9, 0.9 / 1.9]), atol=1e-3, rtol=0)
    assert told[:, 2].abs().max() < 1e-3


def test_nothing_is_read_of_turns_unless_asked_for() -> None:
    """What was trained before there were turns has heads and readouts of the sizes that it had."""
    here = observation(2)
    wanted = PolicySettings(Random("idefics3"), HeadSettings(width=32))
    policy = Policy.build(wanted, bound(), ("front",), 3, seed=0)
    assert policy.remembered_shape is None
    assert policy.ground(here).remembered is None
    assert policy.readout.size == 5 * SLOTS + SLOTS * (SLOTS - 1) + 3
    assert not any("progress" in name or "named" in name for name in policy.state_dict())
