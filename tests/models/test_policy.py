"""The policy: what trains, what stays, what is saved, and where it points."""

import ast
import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, Random, observation
from gymnasium import spaces
from safetensors.torch import load_file, save_file

import vla_rl
from vla_rl.actions import Binned, Choice, Command, Commands, Compose, Pointer, Span, Variant
from vla_rl.config.policy import HeadSettings, LoraSettings, PolicySettings
from vla_rl.models.features import Features
from vla_rl.models.pointers import SLOTS
from vla_rl.models.policy import Policy
from vla_rl.models.processor import pixels_to_floats
from vla_rl.models.readout import Readout
from vla_rl.models.settings import Pretrained
from vla_rl.specs import Mark

BINS = Binned(5).bind(spaces.Box(-1, 1, (3,)))
PLACE = Pointer("front", (12, 8)).bind(spaces.Box(-1, 1, (2,)))
MIXED = Variant([Pointer("front", (8, 8)), Choice()]).bind(spaces.OneOf([spaces.Box(-1, 1, (2,)), spaces.Discrete(3)]))
SPAN = Span().bind(spaces.MultiDiscrete([9, 9]))
TYPING = Command("front", (8, 8)).bind(
    Commands(
        {"wait": (), "click": ("at",), "type": ("words",)},
        {"at": spaces.Box(0, 1, (2,)), "words": spaces.MultiDiscrete([9, 9])},
    )
)
WORDS = HeadSettings(reads=("pointers", "words"), width=32, words=6)
TOKENS = HeadSettings(reads=("pointers", "tokens"), width=32, text_tokens=40)


def make(space=BINS, cameras=("front",), family="idefics3", head=None, state=3, marks=(), **settings) -> Policy:
    head = head or HeadSettings(width=32)
    wanted = PolicySettings(Random(family), head, lora=LoraSettings(rank=2, alpha=4), **settings)
    return Policy.build(wanted, space, cameras, state, seed=0, marks=marks).eval()


def loss_step(policy: Policy, steps: int = 2) -> None:
    """A few steps on some decisions' log-probability."""
    optimizer = torch.optim.AdamW(policy.trainable_parameters(), lr=1e-2)
    tokens = torch.ones(4, 1, len(policy.slots), dtype=torch.long)
    for _ in range(steps):
        loss = -policy.log_prob(policy.encode(observation(4)), tokens).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def equal(a: Features, b: Features) -> bool:
    packed = a.pack(), b.pack()
    return packed[0].keys() == packed[1].keys() and all(np.array_equal(packed[0][k], packed[1][k]) for k in packed[0])


def changed(before: dict, after: dict) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


# --- families, saving, reloading ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_saves_and_reloads_to_identical_logits(family, tmp_path):
    policy = make(family=family, head=TOKENS, marks=[Mark(0, (2,), "front")])
    policy.set_normalization(policy.encode(observation(5)))
    loss_step(policy, 1)
    policy.save_pretrained(tmp_path)
    before = torch.random.get_rng_state()
    again = Policy.from_pretrained(tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())
    ours, theirs = (p.logits(p.encode(observation(3))) for p in (policy, again))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert again.settings.head == TOKENS
    assert (again.action_space, again.cameras, again.state_dim) == (BINS, ("front",), 3)
    assert again.marks == policy.marks == (Mark(0, (2,), "front"),)


@pytest.mark.parametrize("train", ["head", "lora", "all"])
def test_what_trains_is_saved_too_with_its_grounded_copy(train, tmp_path):
    policy = make(MIXED, train=train)
    loss_step(policy)
    policy.save_pretrained(tmp_path)
    policy.save_pretrained(tmp_path)  # replaces
    again = Policy.from_pretrained(tmp_path)
    seen = observation(3)
    assert equal(again.encode(seen), policy.encode(seen))
    assert equal(again.ground(seen), policy.ground(seen))
    assert again.trainable == train
    assert {p.shape for p in again.trainable_parameters()} == {p.shape for p in policy.trainable_parameters()}
    again.save_pretrained(tmp_path / "second")
    told, second = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path, tmp_path / "second"))
    digests = ("files", "sha256")  # transformers' own files name the folder that they were read from
    assert all(told[key] == second[key] for key in told if key not in digests)


def test_reloading_never_asks_the_hub(tmp_path, monkeypatch):
    make(head=TOKENS).save_pretrained(tmp_path)
    asked = []

    def refuse(*address, **_):
        asked.append(address)
        raise OSError("no network here")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    Policy.from_pretrained(tmp_path)
    assert not asked


def test_load_pretrained_puts_weights_back_in_place(tmp_path):
    policy = make(train="lora")
    other = copy.deepcopy(policy)
    loss_step(other)
    other.set_normalization(other.encode(observation(5)).detach())
    other.save_pretrained(tmp_path)
    parameters = policy.trainable_parameters()
    policy.load_pretrained(tmp_path)
    assert all(a is b for a, b in zip(parameters, policy.trainable_parameters(), strict=True))
    assert not changed(policy.state_dict(), other.state_dict())


def test_damaged_folders_are_refused_by_name(tmp_path):
    policy = make()
    policy.save_pretrained(tmp_path)
    file, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    weights, text = load_file(file), config.read_text()
    save_file({k: v for k, v in weights.items() if k != "head.queries"}, file)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged: altered"):
        Policy.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"missing: head\.queries"):
        Policy.from_pretrained(tmp_path, verify=False)
    save_file({**weights, "stranger": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="unexpected: stranger"):
        Policy.from_pretrained(tmp_path, verify=False)
    save_file({**weights, "head.queries": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match=r"of another shape: head\.queries"):
        policy.load_pretrained(tmp_path)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        Policy.from_pretrained(tmp_path)
    for damage in ("{", "[]", text.replace("vla_rl.policy", "else"), text.replace('"version": 1', '"version": 9')):
        config.write_text(damage)
        with pytest.raises(ValueError, match=r"config\.json"):
            Policy.from_pretrained(tmp_path)
    config.unlink()
    with pytest.raises(ValueError, match="no policy's folder"):
        Policy.from_pretrained(tmp_path)


def test_a_checkpoint_cannot_widen_what_may_be_imported(tmp_path):
    make().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["action_space"] = {"type": "os:system"}
    config["plugins"] = ["os"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="'os'"):
        Policy.from_pretrained(tmp_path, verify=False)


def test_a_policy_that_does_not_fit_the_run_says_why():
    policy = make()
    policy.check_fits(BINS, {"observation.images.front": (32, 32, 3)}, 3)
    with pytest.raises(ValueError, match="cameras"):
        policy.check_fits(BINS, ["side"], 3)
    with pytest.raises(ValueError, match="state"):
        policy.check_fits(BINS, ["front"], 4)
    with pytest.raises(ValueError, match="action space"):
        policy.check_fits(MIXED, ["front"], 3)


# --- what trains --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("train", "parts"), [("head", ("head.",)), ("lora", ("head.", "lora_")), ("all", None)])
def test_training_changes_what_the_config_says_and_never_the_grounded_copy(train, parts):
    policy = make(train=train, head=TOKENS)
    policy.train()
    seen, before = observation(4), copy.deepcopy(policy.state_dict())
    assert equal(policy.encode(seen), policy.ground(seen))  # adapters start as the identity
    grounded = policy.ground(seen)
    loss_step(policy)
    moved = changed(before, policy.state_dict())
    assert any(name.startswith("head.") for name in moved)
    if parts is None:
        assert any(name.startswith("trunk.backbone.") for name in moved)
        assert any(name.startswith("trunk.pointers.") for name in moved)
        assert not any(name.startswith("frozen.") for name in moved)
    else:
        assert all(any(part in name for part in parts) for name in moved)
        assert all(any(part in name for name in moved) for part in parts)
    assert equal(policy.ground(seen), grounded)
    assert policy.frozen_trunk == (train == "head")
    assert equal(policy.encode(seen), grounded) == (train == "head")
    assert not policy.ground(seen).places.requires_grad


def test_grounding_between_forward_and_backward_does_no_harm():
    policy = make(train="lora")
    loss = -policy.log_prob(policy.encode(observation(2)), torch.zeros(2, 1, 3, dtype=torch.long)).mean()
    policy.ground(observation(2))
    loss.backward()
    assert all(p.grad is not None for n, p in policy.named_parameters() if "lora_B" in n and "text_model" in n)


def test_lora_needs_layers_that_are_there():
    settings = PolicySettings(Random(), HeadSettings(width=32), train="lora", lora=LoraSettings(modules=("nothing",)))
    with pytest.raises(ValueError, match="nothing"):
        Policy.build(settings, BINS, ["front"], 3)


def test_the_seed_decides_the_fresh_weights_and_leaves_the_global_generator():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first, second = make(), make()
    assert not changed(first.state_dict(), second.state_dict())
    assert torch.equal(state, torch.random.get_rng_state())


# --- features -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", [1, 3])
def test_cameras_and_stacked_frames_are_views(stack):
    policy = make(PLACE, cameras=("observation.images.front", "side"), stack=stack, head=TOKENS)
    seen = observation(2, ("front", "side"), stack if stack > 1 else None)
    features = policy.encode(seen)
    views = 2 * stack
    assert features.places.shape == (2, views * SLOTS, 2)
    assert features.visual is not None
    assert features.visual.shape == (2, views, 16, 32)
    assert policy.readout(features).shape == (2, policy.readout.size)
    # Another last frame of the second camera changes only the last view's pointers.
    seen["observation.images.side"] = seen["observation.images.side"].copy()
    newest = seen["observation.images.side"] if stack == 1 else seen["observation.images.side"][:, -1]
    newest[:] = 255 - newest
    other = policy.encode(seen)
    assert torch.allclose(other.visual[:, :-1], features.visual[:, :-1], atol=1e-5)
    assert not torch.allclose(other.visual[:, -1], features.visual[:, -1], atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_views_apart_are_read_as_one_would_be_and_views_together_see_each_other(family):
    seen = observation(2, ("front", "side"))
    apart, together = (
        make(family=family, cameras=("front", "side"), head=TOKENS, views=v) for v in ("apart", "together")
    )
    alone = [make(family=family, cameras=(name,), head=TOKENS).encode(seen) for name in ("front", "side")]
    both, joint = apart.encode(seen), together.encode(seen)
    for name in ("places", "extents", "confidence", "tokens"):
        expected = torch.cat([getattr(features, name) for features in alone], 1)
        assert torch.allclose(getattr(both, name), expected, atol=1e-4), name
    assert torch.equal(both.mask, torch.cat([features.mask for features in alone], 1))
    assert both.tokens.shape[1] == apart.cached_features()["tokens"][0][0]
    assert joint.tokens.shape[1] == together.cached_features()["tokens"][0][0] < both.tokens.shape[1]
    assert not torch.allclose(joint.confidence, both.confidence, atol=1e-6)


@pytest.mark.parametrize("space", [BINS, MIXED])
def test_packed_features_are_what_replay_was_told_and_unpack_to_the_same(space):
    policy = make(space, head=TOKENS)
    seen = observation(3)
    features = policy.ground(seen)
    packed = features.pack()
    assert {name: (value.shape[1:], str(value.dtype)) for name, value in packed.items()} == policy.cached_features()
    back = Features.unpack(packed, {"observation.state": torch.from_numpy(seen["observation.state"])})
    assert equal(back, features)
    assert torch.equal(back.places, features.places)
    ours, theirs = policy.logits(features), policy.logits(back)
    assert all(torch.allclose(a, b, atol=1e-2) for a, b in zip(ours, theirs, strict=True))
    assert len(back.rows(torch.tensor([2, 0]))) == 2
    assert not torch.equal(back.jittered(0.1).places, back.places)


def test_without_places_and_tokens_only_pointers_are_cached():
    assert make().cached_features() == {
        "places": ((SLOTS, 2), "float32"),
        "extents": ((SLOTS, 2), "float32"),
        "confidence": ((SLOTS,), "float32"),
    }


def test_the_readout_is_measured_in_the_spread_of_the_demonstrations():
    readout = Readout(["front"], stack=1, state_dim=2)
    confidence = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0]]).expand(64, -1)
    state = torch.stack([torch.randn(64) * 3 + 1, torch.full((64,), 7.0)], 1)
    features = Features(torch.rand(64, SLOTS, 2) * 0.4, torch.rand(64, SLOTS, 2) * 0.1, confidence, state)
    readout.set_normalization(features)
    rows = readout(features)
    seen = [*range(4), *range(10, 14), 25, 26, 45]  # two places, their extents, difference, the first state entry
    assert torch.allclose(rows[:, seen].mean(0), torch.zeros(len(seen)), atol=1e-4)
    assert torch.allclose(rows[:, seen].std(0, unbiased=False), torch.ones(len(seen)), atol=1e-3)
    assert rows[:, 46].abs().max() == 0  # constant: only shifted
    far = Features(features.places[:1], features.extents[:1], confidence[:1], torch.tensor([[1e6, 7.0]]))
    assert readout(far).abs().max() == 10


def test_the_readout_gates_by_confidence():
    readout = Readout(["front"], stack=1, state_dim=2)
    places, extents = torch.rand(1, SLOTS, 2) * 2 - 1, torch.rand(1, SLOTS, 2)
    confidence = torch.tensor([[1.0, 0.5, 0.0, 0.0, 0.0]])
    row = readout(Features(places, extents, confidence, torch.tensor([[2.0, 7.5]])))[0]
    assert readout.size == len(row) == 10 + 10 + 5 + 20 + 2
    assert torch.equal(row[:2], places[0, 0])
    assert torch.equal(row[4:10], torch.zeros(6))  # not there: no say
    assert torch.allclose(row[10:12], 4 * extents[0, 0])
    assert torch.equal(row[14:20], torch.zeros(6))
    assert torch.allclose(row[25:27], 4 * 0.5 * (places[0, 1] - places[0, 0]))
    assert row[-2:].tolist() == [2.0, 7.5]


MARKS = (Mark(2, (0, 1), "front"), Mark(6, (4, 5), "front"), Mark(0, (2,), "elsewhere"))


def test_the_readout_tells_which_slots_the_marks_lie_on_and_what_was_done_there():
    readout = Readout(["side", "front"], stack=1, state_dim=8, marks=MARKS)
    plain = Readout(["side", "front"], stack=1, state_dim=8)
    places = torch.zeros(1, 2 * SLOTS, 2)
    places[0, SLOTS:, 0] = torch.linspace(-1, 1, SLOTS)  # of the front view, side by side
    confidence = torch.ones(1, 2 * SLOTS)
    confidence[0, SLOTS + 2] = 0.5
    features = Features(places, torch.full((1, 2 * SLOTS, 2), 0.1), confidence, torch.zeros(1, 8))
    features.state[0] = torch.tensor([1, 0, *places[0, SLOTS + 1], 0, 1, *places[0, SLOTS + 2]])
    row = readout.raw(features)[0]
    assert len(row) == readout.size == plain.size + SLOTS * (2 + 2)
    pointing = plain.size - 8
    assert torch.equal(torch.cat([row[:pointing], row[-8:]]), plain.raw(features)[0])
    first, second, done_0, done_1 = row[pointing:-8].view(4, SLOTS)
    for found, slot, sure in ((first, 1, 1.0), (second, 2, 0.5)):
        assert found[slot] == sure
        assert found.argmax() == slot
        others = torch.arange(SLOTS) != slot
        assert found[others].max() < 0.05  # half an image away, seen through a box of a tenth
    assert torch.equal(done_0, first)
    assert torch.equal(done_1, second)
    features.state[0, 5] = 0  # nothing was done there
    assert readout.raw(features)[0, pointing:-8].view(4, SLOTS)[[1, 3]].abs().max() == 0


def test_marks_of_a_camera_with_unlike_flags_are_refused():
    with pytest.raises(ValueError, match=r"'front' have \[1, 2\] flags"):
        Readout(["front"], stack=1, state_dim=8, marks=[*MARKS[:2], Mark(0, (3,), "front")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observation.images.front": None}, "needs observation.images.front"),
        ({"observation.images.front": np.zeros((2, 32, 32, 3), np.float32)}, "uint8"),
        ({"observation.images.front": np.zeros((2, 2, 32, 32, 3), np.uint8)}, "expected 1 frame"),
        ({"observation.state": None}, "observation.state: expected"),
        ({"observation.state": np.zeros((2, 4), np.float32)}, "observation.state: expected"),
        ({"task": ["x" * 600] * 2}, "at most"),
    ],
)
def test_observations_that_do_not_fit_are_refused_by_key(change, message):
    seen = {key: value for key, value in (observation(2) | change).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        make().encode(seen)


def test_an_instruction_too_long_for_the_head_is_refused():
    with pytest.raises(ValueError, match="text_tokens"):
        make(head=TOKENS).encode(observation(1) | {"task": ["x" * 41]})


def test_a_policy_needs_no_state():
    policy = make(state=0)
    seen = observation(2)
    del seen["observation.state"]
    assert policy.sample(policy.encode(seen), 2).shape == (2, 2, 3)


# --- decisions ----------------------------------------------------------------------------------------------


def test_decisions_have_their_shapes_and_agree():
    policy = make(MIXED)
    features = policy.encode(observation(4))
    tokens = policy.sample(features, 7)
    assert tokens.shape == (4, 7, 3)
    assert torch.equal(policy.log_prob(policy.logits(features), tokens), policy.log_prob(features, tokens))
    greedy = policy.greedy(features)
    assert (policy.log_prob(features, greedy.unsqueeze(1)) <= 0).all()
    assert policy.entropy(features).shape == (4,)
    assert torch.allclose(policy.kl(features, policy.logits(features)), torch.zeros(4), atol=1e-5)
    assert torch.equal(policy.entropy(features), policy.entropy(features))
    assert policy.uniform(5, 2).shape == (5, 2, 3)


def test_autocast_leaves_places_and_logits_precise():
    policy, seen = make(), observation(2)
    encoded = policy.trunk.backbone(torch.rand(2, 1, 3, 32, 32), policy.trunk.backbone.prompt(["go"] * 2))
    features, grid = policy.encode(seen), policy.trunk.backbone.grid
    places = policy.trunk.pointers(encoded.slots_BSD, encoded.visual_BVND, grid).places_BVS2
    logits = policy.logits(features)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(policy.trunk.pointers(encoded.slots_BSD, encoded.visual_BVND, grid).places_BVS2, places)
        assert all(torch.equal(a, b) for a, b in zip(policy.logits(features), logits, strict=True))


def test_a_fresh_policy_is_all_but_uniform_over_bins():
    policy = make()
    entropy = policy.entropy(policy.encode(observation(4)))
    assert torch.allclose(entropy, torch.full((4,), 3 * float(np.log(5))), atol=0.01)


def test_a_fresh_policy_points_at_the_first_thing_mentioned():
    policy = make(PLACE)
    features = policy.encode(observation(3))
    features.places[:, 0] = torch.tensor([[-0.6, 0.5], [0.9, 0.0], [0.1, -0.9]])
    features.confidence[:, 0], features.confidence[:, 1:] = 1.0, 0.01
    for tokens, place in zip(policy.greedy(features), features.places[:, 0], strict=True):
        cell = PLACE.decode(tokens.numpy())
        assert np.abs(cell - place.numpy()).max() <= 1 / 8 + 1e-6


def test_training_moves_a_place_to_where_it_is_told():
    policy = make(PLACE)
    features, wanted = policy.ground(observation(3)), torch.tensor([[[5]], [[40]], [[90]]])
    before = policy.log_prob(features, wanted)
    optimizer = torch.optim.AdamW(policy.trainable_parameters(), lr=3e-3)
    for _ in range(60):
        loss = -policy.log_prob(features, wanted).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = policy.log_prob(features, wanted)
    assert (after > before + 1).all()
    assert torch.equal(policy.greedy(features), wanted[:, 0])


def test_a_place_that_was_right_teaches_the_pointer_that_was_elsewhere():
    policy, seen = make(PLACE, train="all"), observation(3)
    policy.head.requires_grad_(False)
    before = policy.encode(seen)
    far = torch.where(before.places[:, 0, :1] > 0, -0.8, 0.8).expand(-1, 2)
    wanted = torch.from_numpy(np.stack([PLACE.encode(place) for place in far.numpy()])).unsqueeze(1)
    optimizer = torch.optim.Adam(policy.trainable_parameters(), lr=3e-3)
    for _ in range(60):
        loss = -policy.log_prob(policy.encode(seen), wanted).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = policy.encode(seen)
    assert ((before.places[:, 0] - far).abs().amax(-1) > 0.5).all()
    assert ((after.places[:, 0] - far).abs().amax(-1) < 0.3).all()


def test_what_a_pointer_took_for_second_best_is_tried_now_and_then():
    policy = make(PLACE)
    features = policy.encode(observation(1))
    features.places[:, 0], features.confidence[:] = torch.tensor([0.7, 0.7]), torch.eye(1, SLOTS)
    assert features.cells is not None
    features.cells[:] = -20.0
    features.cells[:, 0, :2] = torch.tensor([0.8, 0.2]).log()  # visual tokens of the top row, far from its place
    chances = torch.log_softmax(policy.logits(features)[0], -1).exp()[0]
    top_left, beside = (chances[policy.head.places[0].coarse == token].sum() for token in (0, 1))
    assert 0.02 < top_left < 0.06
    assert torch.isclose(top_left / beside, torch.tensor(4.0), rtol=0.05)


@pytest.mark.parametrize("train", ["lora", "all"])
def test_renewed_critics_see_what_the_trunk_sees_by_now(train):
    policy, seen = make(train=train, head=TOKENS), observation(4)
    loss_step(policy)
    learnt, digest = policy.encode(seen), policy.digest()
    reference = policy.frozen_copy()
    assert not equal(policy.ground(seen), learnt)
    policy.renew()
    grounded = policy.ground(seen)
    assert torch.allclose(grounded.places, learnt.places, atol=1e-5)
    assert torch.allclose(policy.encode(seen).tokens, learnt.tokens, atol=1e-4)
    assert torch.allclose(reference.encode(seen).tokens, learnt.tokens, atol=1e-4)
    assert policy.digest() != digest
    loss_step(policy)
    assert equal(policy.ground(seen), grounded)
    assert not equal(policy.encode(seen), grounded)


@pytest.mark.parametrize("train", ["lora", "all"])
def test_what_trains_may_be_changed_and_changes_no_decision(train):
    policy, seen = make(head=TOKENS), observation(4)
    before, digest, weights = policy.greedy(policy.encode(seen)), policy.digest(), copy.deepcopy(policy.state_dict())
    policy.set_trainable(train, LoraSettings(rank=2, alpha=4))
    assert policy.trainable == train
    assert torch.equal(policy.greedy(policy.encode(seen)), before)
    assert policy.digest() == digest
    loss_step(policy)
    moved = changed(weights, {name.replace(".base_layer", ""): v for name, v in policy.state_dict().items()})
    assert any(name.startswith("trunk.") for name in moved) == (train == "all")
    assert policy.digest() == digest
    assert not equal(policy.encode(seen), policy.ground(seen))
    if train == "lora":
        with pytest.raises(ValueError, match="must be lora; got head"):
            policy.set_trainable("head")
    else:
        policy.set_trainable("head")
        assert equal(policy.encode(seen), policy.ground(seen))
        assert policy.digest() != digest


def test_a_trunk_that_never_changes_needs_no_renewal():
    policy = make()
    digest = policy.digest()
    loss_step(policy)
    policy.renew()
    assert policy.digest() == digest


def test_pointing_into_a_camera_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="'front'; the cameras are side"):
        make(PLACE, cameras=("side",))
    with pytest.raises(ValueError, match="at least one camera"):
        make(cameras=())


def test_places_bins_and_choices_mix_in_one_decision():
    space = Compose([Binned(3), Pointer("front", (4, 4)), Choice()]).bind(
        spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (2,)), spaces.Discrete(6)])
    )
    policy = make(space)
    assert [each.shape[1] for each in policy.logits(policy.encode(observation(2)))] == [3, 3, 16, 6]


def test_the_gate_to_the_tokens_starts_shut_and_opens():
    policy = make(head=TOKENS)
    features = policy.ground(observation(4))
    other = Features(**vars(features) | {"tokens": torch.randn_like(features.tokens)})
    assert torch.equal(policy.logits(features)[0], policy.logits(other)[0])
    loss_step(policy, 3)
    assert not torch.equal(policy.logits(features)[0], policy.logits(other)[0])


# --- promises of the architecture ---------------------------------------------------------------------------


def test_pixels_become_floats_in_one_function_only():
    """Nothing but the processor divides by 255 or reads uint8 images as floats."""
    root = Path(vla_rl.__file__).parent
    found = set()
    for folder in ("models", "algorithms"):
        for path in (root / folder).glob("*.py"):
            constants = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
            if 255 in constants or 255.0 in constants:
                found.add(path.name)
    # The backbone states it in preprocessor_config.json; augmentation, which gives uint8 back, cuts colours off there.
    assert found <= {"processor.py", "backbone.py", "augment.py"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: HeadSettings(reads=("tokens",)), "reads"),
        (lambda: HeadSettings(width=0), "width"),
        (lambda: HeadSettings(dropout=1.0), "dropout"),
        (lambda: LoraSettings(rank=0), "rank"),
        (lambda: PolicySettings(Random(), train="some"), "train"),  # type: ignore[arg-type]
        (lambda: PolicySettings(Random(), stack=0), "stack"),
        (lambda: PolicySettings(Random(), views="beside"), "views"),  # type: ignore[arg-type]
    ],
)
def test_settings_refuse_what_makes_no_sense(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_a_local_folder_is_a_backbone(tmp_path, caplog):
    torch.manual_seed(0)
    Random().load().save(tmp_path)
    policy = Policy.build(PolicySettings(Pretrained(str(tmp_path)), HeadSettings(width=32)), BINS, ["front"], 3)
    assert "point at nothing" in caplog.text
    policy.trunk.pointers.save(tmp_path)
    again = Policy.build(PolicySettings(Pretrained(str(tmp_path)), HeadSettings(width=32)), BINS, ["front"], 3)
    assert equal(policy.ground(observation(2)), again.ground(observation(2)))


# --- words --------------------------------------------------------------------------------------------------


def texts(*said: str) -> dict:
    return {**observation(len(said)), "task": list(said)}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_word_is_the_hidden_states_where_it_ends_and_after(family):
    policy = make(SPAN, family=family)
    backbone = policy.trunk.backbone
    said = ['Type "hello" into it, now.', "no"]
    features = policy.encode(texts(*said))
    assert features.words is not None
    assert features.word_mask is not None
    assert features.words.shape == (2, 9, 2 * backbone.hidden_size)
    assert features.word_mask.sum(1).tolist() == [5, 1]
    assert not features.words[1, 1:].any()
    prompt = backbone.prompt(said)
    pixels = pixels_to_floats(torch.as_tensor(observation(2)["observation.images.front"]), backbone.image_size,
                              backbone.mean, backbone.std)  # fmt: skip
    tokens = backbone(pixels.unsqueeze(1), prompt).tokens_BTD
    for row, (text, word, nth) in enumerate([(said[0], "hello", 1), (said[1], "no", 0)]):
        end = int(prompt.words_BW[row, nth])
        assert torch.equal(features.words[row, nth], torch.cat([tokens[row, end], tokens[row, end + 1]]))
        opening = backbone.overhead() - SLOTS
        read = backbone.tokenizer.decode(prompt.ids_BT[row, opening : end + 1])
        assert read.strip().lower().rstrip('"').endswith(word), (text, read)


def test_words_that_there_are_not_are_never_chosen_and_never_break_a_loss():
    policy = make(TYPING, head=WORDS)
    features = policy.encode(texts("type it here", "one two three four five six seven eight nine ten"))
    tokens = policy.sample(features, 300)
    typed = tokens[..., 0] == 2
    assert typed.any(1).all()
    assert tokens[0][typed[0]].max() <= 2
    assert tokens[1][typed[1]].max() == 8
    absent = torch.tensor([[[2, 0, 7, 8]], [[2, 0, 7, 8]]])
    log_prob = policy.log_prob(features, absent)
    assert -60 < log_prob[0].item() < -15 < log_prob[1].item()


def test_it_learns_which_role_of_word_to_copy_wherever_that_stands():
    policy = make(SPAN, head=WORDS)
    said = ["please type alpha now", "type beta here", "now you can type gamma", "here type delta please"]
    label = torch.tensor([[text.split().index("type") + 1] * 2 for text in said])
    features = policy.encode(texts(*said))
    optimizer = torch.optim.AdamW(policy.trainable_parameters(), lr=1e-2)
    for _ in range(80):
        loss = policy.imitation_loss(features, label).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert policy.greedy(features).tolist() == label.tolist()


def test_features_of_words_survive_replay(tmp_path):
    policy = make(TYPING, head=WORDS)
    seen = texts("type it here", "and here")
    features = policy.encode(seen)
    packed = features.pack()
    assert {name: (value.shape[1:], str(value.dtype)) for name, value in packed.items()} == policy.cached_features()
    again = Features.unpack(packed, {key: torch.as_tensor(v) if key != "task" else v for key, v in seen.items()})
    for one, other in zip(policy.logits(features), policy.logits(again), strict=True):
        torch.testing.assert_close(one, other, atol=2e-2, rtol=0)
    policy.save_pretrained(tmp_path)
    assert Policy.from_pretrained(tmp_path).action_space == TYPING
