"""Decisions said token by token: exact probabilities, the same with a cache and without, saved and trained."""

import itertools

import numpy as np
import pytest
import torch
from families import FAMILIES, Random, observation
from gymnasium import spaces

from vla_rl.actions import Binned, Choice, Fast, Pointer, Span, Variant, allowed
from vla_rl.config.policy import HeadSettings, LoraSettings, PolicySettings
from vla_rl.models import prefix
from vla_rl.models.autoregressive import action_tokens
from vla_rl.models.features import Features
from vla_rl.models.policy import Policy
from vla_rl.specs import STATE

BINS = Binned((3, 4, 2)).bind(spaces.Box(-1, 1, (3,)))
GRAMMAR = Variant([Binned(3), Choice()]).bind(spaces.OneOf([spaces.Box(-1, 1, (2,)), spaces.Discrete(4)]))
WALKS = list(np.cumsum(np.random.default_rng(0).normal(size=(60, 4, 2)) * 0.3, 1))
FAST = Fast(4, scale=4).bind(spaces.Box(-1, 1, (2,))).fit(WALKS)
SPACES = {"bins": BINS, "grammar": GRAMMAR, "fast": FAST}
READS = {"slots": ("pointers",), "sequence": ("pointers", "tokens")}


def make(space=BINS, family="idefics3", reads="sequence", decoder="backbone", **settings) -> Policy:
    head = HeadSettings(READS[reads], width=32, text_tokens=40, type="autoregressive", decoder=decoder)
    wanted = PolicySettings(Random(family), head, lora=LoraSettings(rank=2, alpha=4), **settings)
    return Policy.build(wanted, space, ("front",), 3, seed=0).eval()


def shaken(policy: Policy) -> Policy:
    """The policy with a head that tells tokens apart."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.head.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return policy


def naive(policy: Policy, seen: dict, tokens: list[int]) -> float:
    """The log-probability of one decision at one observation: the whole sequence in one pass, without any cache."""
    backbone, head = policy.trunk.backbone, policy.head
    decoder = prefix.language_model(backbone)
    given: dict[str, torch.Tensor] = {}

    def listen(_, args, kwargs) -> None:
        given.setdefault("x", args[0] if args else kwargs["hidden_states"])

    def listen_to_positions(_, args, kwargs) -> None:
        given.update({name: kwargs[name] for name in ("position_ids",) if kwargs.get(name) is not None})

    hooks = [(decoder.layers[0], listen), (decoder, listen_to_positions)]
    listening = [module.register_forward_pre_hook(hook, with_kwargs=True) for module, hook in hooks]
    features = policy.encode(seen)
    for each in listening:
        each.remove()
    x_1KD = policy.logits(features).x_BKD
    steps = [x_1KD[0, k] + (head.said[tokens[k - 1]] if k else 0) for k in range(len(tokens))]
    position = given.get("position_ids")
    if position is not None:
        after = position.amax() + 1 + torch.arange(len(tokens))
        position = torch.cat([position, after.expand(*position.shape[:-1], -1)], -1)
    whole = torch.cat([given["x"], torch.stack(steps)[None]], 1)
    hidden = decoder(inputs_embeds=whole, position_ids=position, use_cache=False).last_hidden_state[0]
    total = 0.0
    for k, token in enumerate(tokens):
        logits = hidden[k - len(tokens)] @ head.rows.T + head.bias[k]
        logits = logits[: policy.slots[k].choices]
        mask = policy.action_space.mask(np.array([tokens[:k]], np.int64).reshape(1, k))
        if mask is not None:
            logits = logits.masked_fill(~torch.from_numpy(mask[0]), -torch.inf)
        total += float(torch.log_softmax(logits, -1)[token])
    return total


@pytest.mark.parametrize("family", ["idefics3", "qwen2_5_vl", "llava", "internvl"])
def test_probabilities_are_those_of_the_whole_sequence_read_anew(family):
    policy, seen = shaken(make(family=family)), observation(1)
    with torch.no_grad():
        tokens = policy.sample(policy.encode(seen), 3)
        found = policy.log_prob(policy.encode(seen), tokens)[0]
        assert found.tolist() == pytest.approx([naive(policy, seen, each.tolist()) for each in tokens[0]], abs=2e-4)


@pytest.mark.parametrize("space", ["grammar", "fast"])
def test_probabilities_under_a_mask_are_exact(space):
    policy, seen = shaken(make(SPACES[space])), observation(1)
    with torch.no_grad():
        tokens = policy.sample(policy.encode(seen), 4)
        assert all(allowed(policy.action_space, each) for each in tokens[0].numpy())
        assert all(policy.action_space.decode(each) is not None for each in tokens[0].numpy())
        found = policy.log_prob(policy.encode(seen), tokens)[0]
        assert found.tolist() == pytest.approx([naive(policy, seen, each.tolist()) for each in tokens[0]], abs=2e-4)


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("space", [BINS, GRAMMAR])
def test_all_decisions_together_are_certain(space, reads):
    policy = shaken(make(space, reads=reads))
    every = torch.tensor(list(itertools.product(*(range(slot.choices) for slot in space.slots))))
    with torch.no_grad():
        log_prob = policy.log_prob(policy.encode(observation(3)), every.expand(3, -1, -1))
    assert torch.allclose(log_prob.exp().sum(1), torch.ones(3), atol=1e-5)
    forbidden = [not allowed(space, each) for each in every.numpy()]
    assert log_prob[:, forbidden].exp().sum() == 0


@torch.no_grad()
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "florence2"])
def test_a_row_and_a_decision_are_as_by_themselves(family):
    policy = shaken(make(family=family))
    features = policy.encode(observation(3))  # whose texts are of three lengths
    tokens = policy.sample(features, 5)
    together = policy.log_prob(features, tokens)
    alone = [[policy.log_prob(features.rows([b]), tokens[b : b + 1, i : i + 1]) for i in range(5)] for b in range(3)]
    assert torch.allclose(together, torch.tensor(alone), atol=1e-4)
    noise = torch.rand(3, 5, 3, generator=torch.Generator().manual_seed(0))
    drawn = policy.sample(features, 5, noise)
    assert torch.equal(drawn[1:, 2:4], policy.sample(features.rows([1, 2]), 2, noise[1:, 2:4]))


@torch.no_grad()
@pytest.mark.parametrize("space", SPACES)
def test_the_greedy_decision_is_the_best_token_step_by_step(space):
    policy = shaken(make(SPACES[space]))
    features = policy.encode(observation(2))
    choices, tokens = policy.logits(features), policy.greedy(features)
    for k in range(len(policy.slots)):
        assert torch.equal(choices.given(tokens.unsqueeze(1))[k][:, 0].argmax(-1), tokens[:, k])


def test_entropy_and_divergence_are_near_the_exact_ones():
    policy, other = shaken(make()), make()
    features = policy.encode(observation(2))
    every = torch.tensor(list(itertools.product(range(3), range(4), range(2)))).expand(2, -1, -1)
    p, q = (each.log_prob(each.encode(observation(2)), every) for each in (policy, other))
    noise = torch.rand(2, 1000, 3, generator=torch.Generator().manual_seed(0)).clamp(1e-6, 1 - 1e-6)
    said, reference = policy.logits(features), other.logits(other.encode(observation(2)))
    assert torch.allclose(said.entropy(policy.sample(said, 1000, noise)), -(p.exp() * p).sum(1), atol=0.03)
    kl = policy.kl(said, reference, noise)
    assert torch.allclose(kl, (p.exp() * (p - q)).sum(1), atol=0.05)
    assert torch.allclose(policy.kl(said, said), torch.zeros(2), atol=1e-6)
    exact = torch.autograd.grad((p.exp() * (p - q)).sum(), policy.head.queries, retain_graph=True)[0]
    estimated = torch.autograd.grad(kl.sum(), policy.head.queries)[0]
    assert torch.nn.functional.cosine_similarity(exact.flatten(), estimated.flatten(), 0) > 0.97


@pytest.mark.parametrize(("space", "decoder"), [("bins", "backbone"), ("bins", "copy"), ("fast", "copy")])
def test_it_learns_a_batch_by_heart_and_is_saved_with_it(space, decoder, tmp_path):
    policy = make(SPACES[space], decoder=decoder)
    features, rng = policy.encode(observation(4)), np.random.default_rng(0)
    labels = policy.uniform(4, 1, torch.from_numpy(rng.random((4, 1, len(policy.slots)))).float())[:, 0]
    if space == "fast":
        labels = torch.from_numpy(np.stack([FAST.encode(walk) for walk in WALKS[:4]]))
    optimizer = torch.optim.Adam(policy.trainable_parameters(), lr=1e-2)
    for _ in range(120):
        loss = policy.imitation_loss(features, labels).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(policy.greedy(features), labels)
    assert policy.log_prob(features, labels.unsqueeze(1)).exp().min() > 0.5
    policy.save_pretrained(tmp_path)
    again = Policy.from_pretrained(tmp_path)
    assert (again.settings.head, again.action_space) == (policy.settings.head, policy.action_space)
    seen = observation(4, seed=3)
    noise = torch.rand(4, 6, len(policy.slots), generator=torch.Generator().manual_seed(0))
    ours, theirs = (each.sample(each.encode(seen), 6, noise) for each in (policy, again))
    assert torch.equal(ours, theirs)


@torch.no_grad()
@pytest.mark.parametrize("reads", READS)
def test_kept_features_decide_as_fresh_ones(reads):
    policy = shaken(make(reads=reads))
    seen = observation(4)
    features = policy.ground(seen)
    packed = features.pack()
    shapes = {name: (value.shape[1:], str(value.dtype)) for name, value in packed.items()}
    assert shapes == policy.cached_features()
    assert shapes["prefix"][0] == ((65 if reads == "sequence" else 5), prefix.size(policy.trunk.backbone))
    again = Features.unpack(packed, {STATE: torch.from_numpy(seen[STATE])})
    tokens = policy.sample(features, 4)
    assert torch.allclose(policy.log_prob(features, tokens), policy.log_prob(again, tokens), atol=0.02)


@pytest.mark.parametrize("train", ["lora", "all"])
def test_a_trunk_that_trains_learns_through_what_it_said_before_and_through_what_it_says(train):
    policy = shaken(make(train=train))
    assert not any(name.startswith("prefix") for name in policy.cached_features()), "critics read no prefix"
    assert policy.ground(observation(2)).prefix is None
    before = policy.frozen_copy()
    tokens = torch.zeros(2, 1, 3, dtype=torch.int64)
    policy.log_prob(policy.encode(observation(2)), tokens).sum().backward()
    language = [value for name, value in policy.named_parameters() if "text_model" in name and value.requires_grad]
    moved = [value for value in language if value.grad is not None and value.grad.abs().sum() > 0]
    assert len(moved) > len(language) / 3
    with torch.no_grad():
        for value in moved:
            value += 0.1 * torch.randn_like(value)
    fresh, old = (each.log_prob(each.encode(observation(2)), tokens) for each in (policy, before))
    assert not torch.allclose(fresh, old)
    assert torch.equal(old, before.log_prob(before.encode(observation(2)), tokens))


def test_decisions_may_be_good_or_bad_ones():
    policy = make()
    policy.condition()
    features = policy.encode(observation(2))
    with torch.no_grad():
        policy.head.advantage[1] = 1.0
    tokens, good = torch.zeros(2, 1, 3, dtype=torch.int64), torch.tensor([1, -1])
    told, untold = policy.log_prob(policy.logits(features, good), tokens), policy.log_prob(features, tokens)
    assert told[0] == untold[0]
    assert told[1] != untold[1]


def test_tokens_are_the_last_ordinary_ones_of_the_vocabulary():
    backbone = Random("idefics3").load()
    names = backbone.tokenizer.convert_ids_to_tokens(action_tokens(backbone, 4))
    assert len(backbone.tokenizer) - 1 == backbone.tokenizer.convert_tokens_to_ids("<self>"), (
        "the last of all is special"
    )
    assert not {*names} & {*backbone.tokenizer.all_special_tokens, "<ptr>", "<self>"}


PLACE = Pointer("front", (20, 20)).bind(spaces.Box(-1, 1, (2,)))
SPAN = Span().bind(spaces.MultiDiscrete([9, 9]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"space": PLACE}, "policy.head.type=autoregressive: a token of action_space has 400 choices, .* 256 ordinary"),
        ({"space": SPAN}, "policy.head.type=autoregressive: action_space Span copies words"),
        ({"family": "florence2"}, "policy.head.type=autoregressive: a backbone of model_type 'florence2'"),
        ({"family": "florence2", "decoder": "copy"}, "policy.head.type=autoregressive: a backbone of model_type"),
        ({"remembers": "turns"}, "remembers=turns: only a head of policy.head.type=parallel"),
    ],
)
def test_what_does_not_fit_names_the_keys(given, message):
    with pytest.raises(ValueError, match=message):
        make(**given)


def test_a_parallel_head_does_not_say_compressed_tokens():
    with pytest.raises(ValueError, match=r"policy.head.type=parallel: .*action_space Fast.*take policy.head.type=auto"):
        Policy.build(PolicySettings(Random(), HeadSettings(width=32)), FAST, ("front",), 3, seed=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"type": "diffusion"}, "type must be parallel or autoregressive; got 'diffusion'"),
        ({"type": "autoregressive", "decoder": "none"}, "decoder must be backbone or copy"),
        ({"decoder": "copy"}, "decoder=copy: a head of type=parallel has no decoder"),
        ({"type": "autoregressive", "reads": ("pointers", "words")}, "reads: a head of type=autoregressive .* words"),
    ],
)
def test_head_settings_that_do_not_fit(given, message):
    with pytest.raises(ValueError, match=message):
        HeadSettings(**given)
