"""What of a trunk trains: where adapters go, in which precision they learn, and the rows of `<ptr>` and `<self>`."""

import dataclasses
import json

import pytest
import torch
from families import FAMILIES, Random, observation
from gymnasium import spaces

from vla_rl.actions import Binned
from vla_rl.config.policy import BEFORE_PARTS, HeadSettings, LoraSettings, PolicySettings
from vla_rl.models.policy import Policy

BINS = Binned(5).bind(spaces.Box(-1, 1, (3,)))
HEAD = HeadSettings(reads=("pointers", "tokens"), width=32, text_tokens=40)


@dataclasses.dataclass(frozen=True)
class Half(Random):
    """The same in half precision."""

    def load(self):
        backbone = super().load()
        backbone.model.to(torch.bfloat16)
        return backbone


def made(train="lora", backbone=None, **lora) -> Policy:
    settings = PolicySettings(backbone or Random(), HEAD, train=train, lora=LoraSettings(rank=2, alpha=4, **lora))
    return Policy.build(settings, BINS, ["front"], 3, seed=0)


def adapted(policy: Policy) -> set[str]:
    """The layers with adapters."""
    found = (name for name, _ in policy.trunk.backbone.model.named_parameters() if ".lora_A." in name)
    return {name.partition(".lora_A.")[0] for name in found}


def step(policy: Policy, rate: float = 1e-2) -> None:
    """A step on some decisions' log-probability."""
    optimizer = torch.optim.AdamW(policy.trainable_parameters(), lr=rate)
    tokens = torch.ones(4, 1, 3, dtype=torch.long)
    for _ in range(2):
        optimizer.zero_grad()
        (-policy.log_prob(policy.encode(observation(4)), tokens).mean()).backward()
        optimizer.step()


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_go_into_all_linear_layers_of_the_language_model(family):
    backbone = Random(family).load()
    language = f"model.{backbone.language}."
    linear = {n for n, m in backbone.model.named_modules() if isinstance(m, torch.nn.Linear) and n.startswith(language)}
    assert adapted(made(backbone=Random(family))) == linear != set()


def test_modules_and_parts_say_where_adapters_go():
    some = adapted(made(modules=("q_proj",)))
    both = adapted(made(modules=("q_proj",), parts=("language", "vision")))
    assert {name.rpartition(".")[2] for name in both} == {"q_proj"}
    assert some < both
    with pytest.raises(ValueError, match=r"name no linear layer of language; there are \['down_proj'"):
        made(modules=("nothing",))


def test_adapters_and_head_learn_in_float32_beside_weights_in_half_precision():
    policy = made(backbone=Half())
    kinds = {parameter.dtype for parameter in policy.trainable_parameters()}
    assert kinds == {torch.float32}
    assert policy.trunk.backbone.model.dtype == torch.bfloat16
    before = {name: value.clone() for name, value in policy.named_parameters() if value.requires_grad}
    step(policy, rate=1e-6)  # too little to change a weight near 1 in half precision
    own = dict(policy.named_parameters())
    assert all(not torch.equal(own[name], value) for name, value in before.items() if "lora_B" in name)
    with pytest.raises(ValueError, match=r"train=all: .* weights of bfloat16; give policy\.backbone\.dtype=float32"):
        made(train="all", backbone=Half())


@pytest.mark.parametrize("family", ["idefics3", "gemma3", "florence2"])
def test_the_rows_of_the_slots_train_and_are_saved_and_merged(family, tmp_path):
    policy, seen = made(backbone=Random(family)), observation(4)
    table = policy.trunk.backbone.model.get_input_embeddings()
    ids = policy.trunk.backbone.tokenizer.convert_tokens_to_ids(["<ptr>", "<self>"])
    before, grounded = table.weight.clone(), policy.ground(seen).tokens
    step(policy)
    assert (table.lora_slots != 0).any(1).all()
    assert torch.equal(table.weight, before)
    assert torch.equal(policy.ground(seen).tokens, grounded)
    policy.save_pretrained(tmp_path)
    learnt = policy.encode(seen).tokens
    assert torch.equal(Policy.from_pretrained(tmp_path).encode(seen).tokens, learnt)
    policy.renew()
    moved = (table.weight != before).any(1).nonzero()[:, 0].tolist()
    assert moved == ids
    assert torch.allclose(policy.ground(seen).tokens, learnt, atol=1e-4)
    assert not made(slot_tokens=False).state_dict().keys() & {"trunk.backbone.model.model.embed_tokens.lora_slots"}


def test_spare_rows_of_a_table_start_as_an_average_word():
    from vla_rl.models.backbone import Backbone
    from vla_rl.models.samples import sample

    config, words = sample("idefics3")
    config.get_text_config().vocab_size = len(words) + 60
    known = len(words)
    torch.manual_seed(0)
    weight = Backbone.from_config(config, words).model.get_input_embeddings().weight
    assert len(weight) == known + 60
    assert torch.allclose(weight[known : known + 2], weight[:known].mean(0).expand(2, -1))


def test_a_policy_that_an_older_version_adapted_is_what_it_was(tmp_path):
    policy, seen = (
        made(**{key: tuple(v) if isinstance(v, list) else v for key, v in BEFORE_PARTS.items()}),
        observation(4),
    )
    step(policy)
    policy.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    told = json.loads(file.read_text())
    told["lora"] = {"rank": 2, "alpha": 4, "modules": BEFORE_PARTS["modules"]}
    file.write_text(json.dumps(told))
    again = Policy.from_pretrained(tmp_path, verify=False)
    assert torch.equal(again.encode(seen).tokens, policy.encode(seen).tokens)
