"""What stands around an instruction: nothing, or a turn in the model's own chat template."""

import json

import pytest
import torch
from families import Random

from vla_rl.models.backbone import Backbone
from vla_rl.models.pointers import MENTIONS

TEMPLATE = (
    "<s>{% for turn in messages %}{{ turn.role }}:{% for part in turn.content %}"
    "{% if part.type == 'image' %}IMAGE{% else %}{{ part.text }}{% endif %}{% endfor %}{{ ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}Answer:{% endif %}"
)
SIGNS = {"llava": "<image>", "qwen2_vl": "<|vision_start|><|image_pad|><|vision_end|>", "gemma3": "<start_of_image>"}


def chat(family: str) -> Backbone:
    made = Random(family).load()
    made.tokenizer.chat_template = TEMPLATE.replace("IMAGE", SIGNS[family])
    return Backbone(made.model, made.tokenizer, made.image_size, prompt_style="chat").eval()


@pytest.mark.parametrize("family", SIGNS)
def test_a_turn_holds_the_images_and_the_instruction_and_ends_where_the_model_would_answer(family: str) -> None:
    backbone = chat(family)
    plain = Backbone(backbone.model, backbone.tokenizer, backbone.image_size)
    ids = backbone.prompt(["go there"], views=2).ids_BT[0].tolist()
    image = plain.prompt([""], views=1).ids_BT[0].tolist()[1 : -MENTIONS - 1]  # between <s> and the slots

    def read(text: str) -> list[int]:
        return backbone.tokenizer(text, add_special_tokens=False).input_ids

    turn = [*read("<s>user:"), *image, *image, *read("go there Answer:")]
    assert ids[: len(turn)] == turn
    assert len(ids) == len(turn) + MENTIONS + 1
    assert backbone.overhead(2) == len(ids) - len(read("go there"))


def test_the_words_of_a_turn_are_found() -> None:
    backbone = chat("llava")
    prompt = backbone.prompt(["go there"])
    ends = [backbone.tokenizer.decode(prompt.ids_BT[0, at : at + 1]) for at in prompt.words_BW[0].tolist()]
    assert ends == ["o", "e"]


def test_the_style_is_saved_and_a_processors_template_is_found(tmp_path) -> None:
    torch.manual_seed(0)
    backbone = chat("llava")
    backbone.save(tmp_path)
    again = Backbone.load(tmp_path)
    assert again.prompt_style == "chat"
    assert torch.equal(again.prompt(["go"]).ids_BT, backbone.prompt(["go"]).ids_BT)
    assert Backbone.load(tmp_path, prompt_style="plain").prompt_style == "plain"
    plain = Random("llava").load()
    plain.save(tmp_path / "plain")
    (tmp_path / "plain" / "chat_template.json").write_text(
        json.dumps({"chat_template": backbone.tokenizer.chat_template})
    )
    found = Backbone.load(tmp_path / "plain", prompt_style="chat")
    assert torch.equal(found.prompt(["go"]).ids_BT, backbone.prompt(["go"]).ids_BT)


def test_a_model_without_a_template_that_fits_is_refused() -> None:
    made = Random("llava").load()
    with pytest.raises(ValueError, match=r"prompt=chat: .* no chat template; use plain"):
        Backbone(made.model, made.tokenizer, prompt_style="chat").prompt(["go"])
    made.tokenizer.chat_template = "{{ messages[0].content[-1].text }}"
    with pytest.raises(ValueError, match="no place for images and text: 'INSTRUCTION'"):
        Backbone(made.model, made.tokenizer, prompt_style="chat").prompt(["go"])
