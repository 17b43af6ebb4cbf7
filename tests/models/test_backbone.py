"""One wrapper, several families: sequences, reloading, and what is refused."""

import json
import math

import pytest
import torch
from families import FAMILIES, Random, parts
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from tests.unsealed import unsealed
from vla_rl.models.backbone import POINTER_TOKEN, SELF_TOKEN, TEXT_LIMIT, Backbone
from vla_rl.models.families import family_of
from vla_rl.models.pointers import MENTIONS, Pointers, around_best, cell_centres
from vla_rl.models.processor import pixels_to_floats


@pytest.fixture
def backbone() -> Backbone:
    torch.manual_seed(0)
    return Random().load()


def pixels(backbone: Backbone, rows: int, views: int = 1) -> torch.Tensor:
    images = torch.randint(0, 256, (rows, views, 32, 32, 3), dtype=torch.uint8)
    return pixels_to_floats(images, backbone.image_size, backbone.mean, backbone.std)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_encodes_views_and_reloads_to_identical_outputs(family, tmp_path):
    torch.manual_seed(0)
    backbone = Random(family).load()
    assert backbone.grid == (4, 4)
    prompt = backbone.prompt(["reach the red cube", "go"], views=2)
    views = pixels(backbone, 2, 2)
    with torch.no_grad():
        encoded = backbone(views, prompt)
        alone = backbone(views[1:], backbone.prompt(["go"], views=2))
    assert encoded.visual_BVND.shape == (2, 2, 16, 32)
    assert encoded.slots_BSD.shape == (2, MENTIONS + 1, 32)
    assert torch.equal(encoded.slots_BSD[0], encoded.tokens_BTD[0, -MENTIONS - 1 :])
    # Padding changes nothing.
    assert torch.allclose(encoded.slots_BSD[1], alone.slots_BSD[0], atol=1e-5)
    backbone.save(tmp_path)
    again = Backbone.load(tmp_path)
    with torch.no_grad():
        same = again(views, again.prompt(["reach the red cube", "go"], views=2))
    assert torch.equal(same.tokens_BTD, encoded.tokens_BTD)
    assert torch.equal(same.visual_BVND, encoded.visual_BVND)
    assert (again.mean, again.std, again.image_size) == (backbone.mean, backbone.std, backbone.image_size)


@pytest.mark.parametrize("family", FAMILIES)
def test_visual_tokens_are_what_enters_the_language_model_and_lie_row_by_row(family):
    torch.manual_seed(0)
    backbone = Random(family).load()
    views = pixels(backbone, 1, 2)
    prompt = backbone.prompt(["go"], views=2)
    seen = []
    row = family_of(backbone.model.config)
    language = backbone.model.model.get_submodule(row.language)
    # What reads Idefics3's sequences enters at the first layer, see `families`.
    entry = language.layers[0] if family in ("idefics3", "smolvlm") else language
    hook = entry.register_forward_pre_hook(
        lambda m, a, k: seen.append(a[0] if a else k["inputs_embeds"]), with_kwargs=True
    )
    with torch.no_grad():
        encoded = backbone(views, prompt)
        hook.remove()
        changed = views.clone()
        changed[0, 1, :, 8:16, 16:24] += 1.0  # row 1, column 2 of the second view
        other = backbone(changed, prompt)
    image = prompt.ids_BT[0] == 2
    first = row.around[0]
    entered = seen[0][0, image].view(2, 16 + sum(row.around), -1)[:, first : first + 16]
    assert torch.allclose(entered, encoded.visual_BVND[0], atol=1e-6)
    moved = (other.visual_BVND - encoded.visual_BVND)[0].norm(dim=-1)
    assert moved[0].max() < 1e-5
    assert moved[1].argmax() == 1 * 4 + 2


@pytest.mark.parametrize("family", FAMILIES)
def test_slot_tokens_get_rows_of_their_own(family):
    backbone = Random(family).load()
    weight = backbone.model.get_input_embeddings().weight
    assert len(weight) == len(backbone.tokenizer)
    assert torch.allclose(weight[-2:], weight[:-2].mean(0).expand(2, -1))
    again = Backbone(backbone.model, backbone.tokenizer, backbone.image_size)
    assert again.model.get_input_embeddings().weight is weight


def test_the_sequence_is_images_instruction_pointers_self(backbone):
    prompt = backbone.prompt(["go", "reach it"], views=2)
    ids = prompt.ids_BT[0].tolist()
    pointer, own = backbone.tokenizer.convert_tokens_to_ids([POINTER_TOKEN, SELF_TOKEN])
    assert ids.count(2) == 32
    assert ids[prompt.slots_BS[0, 0] - 2 :][: 2 + MENTIONS + 1] == [
        *backbone.tokenizer("go", add_special_tokens=False).input_ids, *[pointer] * MENTIONS, own,
    ]  # fmt: skip
    assert prompt.mask_BT.sum(1).tolist() == (prompt.slots_BS[:, -1] + 1).tolist()


def test_the_same_instructions_give_the_same_prompt_object(backbone):
    with torch.inference_mode():
        first = backbone.prompt(["go", "stay"])
    assert backbone.prompt(["go", "stay"]) is first
    # Made in inference mode, and still good for a gradient.
    backbone(pixels(backbone, 2), first).tokens_BTD.sum().backward()


class Counting:
    """A tokenizer that remembers what it read."""

    def __init__(self, tokenizer):
        self.tokenizer, self.read = tokenizer, []

    def __call__(self, text, **options):
        self.read.append(text)
        return self.tokenizer(text, **options)

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_instruction_is_read_once_and_gives_the_features_of_one_read_anew(family):
    torch.manual_seed(0)
    backbone = Random(family).load()
    views = pixels(backbone, 2)
    # The second is another batch of the same instructions, as where one of the environments begins anew.
    batches = (["reach the red cube", "go"], ["go", "reach the red cube"], ["go", "go"])
    fresh = [Backbone(backbone.model, backbone.tokenizer, backbone.image_size).eval() for _ in batches]
    backbone.tokenizer = Counting(backbone.tokenizer)
    with torch.no_grad():
        for texts, each in zip(batches, fresh, strict=True):
            remembered, anew = backbone(views, backbone.prompt(texts)), each(views, each.prompt(texts))
            assert torch.equal(remembered.tokens_BTD, anew.tokens_BTD)
    assert backbone.tokenizer.read == ["reach the red cube", "go"]


@pytest.mark.parametrize("text", ["a\0b", "push \U0001f916 \u05d0\u05d1", "<image><ptr><self>", ""])
def test_odd_text_is_text(backbone, text):
    prompt = backbone.prompt([text])
    ids = prompt.ids_BT[0, : prompt.slots_BS[0, 0]].tolist()
    opening = len(ids) - len(text.encode())
    assert backbone.tokenizer.decode(ids[opening:]) == text
    assert ids.count(2) == 16


def test_too_long_an_instruction_is_refused_with_the_limit(backbone):
    limit = backbone.text_limit()
    assert 0 < limit <= TEXT_LIMIT
    backbone.prompt(["x" * limit])
    with pytest.raises(ValueError, match=f"at most {limit}"):
        backbone.prompt(["x" * (limit + 1)])
    with pytest.raises(ValueError, match=f"at most {backbone.text_limit(3)}"):
        backbone.prompt(["x" * limit], views=3)


def test_missing_and_unexpected_weights_are_named(backbone, tmp_path):
    backbone.save(tmp_path)
    file = unsealed(tmp_path) / "model.safetensors"
    weights = load_file(file)
    name = next(key for key in weights if "patch_embedding.weight" in key)
    save_file({key: value for key, value in weights.items() if key != name}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"missing keys: \S*patch_embedding\.weight"):
        Backbone.load(tmp_path)
    save_file({**weights, "model.stranger": torch.zeros(1)}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"unexpected keys: model\.stranger"):
        Backbone.load(tmp_path)
    save_file({**weights, name: torch.zeros(1, 2)}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"mismatched keys: \S*patch_embedding\.weight"):
        Backbone.load(tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [("/no/such/folder", "no such folder"), ("./nor/this", "no such folder"), ("gpt2", "no such folder"),
     ("nobody/nothing", "neither a folder nor to be had")],
)  # fmt: skip
def test_a_source_that_is_nowhere_is_refused(source, message):
    with pytest.raises(ValueError, match=message):
        Backbone.load(source)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"lacks config\.json"):
        Backbone.load(tmp_path)


def test_image_sizes_that_the_model_cannot_see_are_refused():
    with pytest.raises(ValueError, match="multiple of 8 for this idefics3 backbone; nearest: 40"):
        Backbone.from_config(*parts("idefics3"), image_size=41)
    with pytest.raises(ValueError, match="images of 32 only"):
        Backbone.from_config(*parts("llava"), image_size=64)
    assert Backbone.from_config(*parts("qwen2_5_vl"), image_size=64).grid == (8, 8)
    assert Backbone.from_config(*parts("llava_siglip")).grid == (4, 4)  # of 34 pixels, in patches of 8


def test_what_no_family_sees_is_refused_before_any_weight_is_read(backbone, tmp_path, monkeypatch):
    backbone.save(tmp_path)
    monkeypatch.setattr(
        AutoModelForImageTextToText, "from_pretrained", lambda *a, **k: pytest.fail("weights were read")
    )
    with pytest.raises(ValueError, match="nearest: 40"):
        Backbone.load(tmp_path, 41)
    config = unsealed(tmp_path) / "config.json"
    config.write_text(config.read_text().replace('"model_type": "idefics3"', '"model_type": "blip-2"', 1))
    with pytest.raises(ValueError, match=r"'blip-2' is not supported; known: idefics3, .*florence2"):
        Backbone.load(tmp_path)


def test_a_model_that_two_pictures_are_one_to_is_refused(tmp_path, monkeypatch):
    backbone = Random("llava").load()
    backbone.save(tmp_path)
    base = type(backbone.model.model)
    whole = base.forward
    # As transformers before 5.18 do: what they do not know goes into **kwargs, and nowhere.
    monkeypatch.setattr(base, "forward", lambda self, mm_encoder_outputs=None, **given: whole(self, **given))
    with pytest.raises(ValueError, match=r"llava, transformers [\d.]+\): two pictures give the same hidden states"):
        Backbone.load(tmp_path)
    monkeypatch.setattr(base, "forward", lambda self, **given: whole(self, **given))
    with pytest.raises(ValueError, match=r"llava of transformers [\d.]+ would be blind"):
        Backbone.load(tmp_path)


def test_an_unknown_family_is_refused_with_those_known(backbone):
    backbone.model.config.__class__ = type("Other", (), {"model_type": "other"})
    with pytest.raises(ValueError, match=r"'other' is not supported; known: idefics3"):
        Backbone(backbone.model, backbone.tokenizer)


def test_a_black_image_is_an_image(backbone):
    with torch.no_grad():
        encoded = backbone(torch.zeros(1, 1, 3, 32, 32), backbone.prompt(["go"]))
    assert torch.isfinite(encoded.tokens_BTD).all()


def test_pixels_become_floats_by_size_mean_and_std():
    images = torch.full((2, 4, 6, 3), 255, dtype=torch.uint8)
    floats = pixels_to_floats(images, 2, (0.5, 0.0, 1.0), (0.5, 1.0, 0.5))
    assert floats.shape == (2, 3, 2, 2)
    assert torch.allclose(floats[0, :, 0, 0], torch.tensor([1.0, 1.0, 0.0]), atol=1e-6)
    for wrong in (images.float(), images[..., :2], images[0, 0]):
        with pytest.raises(ValueError, match="uint8"):
            pixels_to_floats(wrong, 2, (0, 0, 0), (1, 1, 1))


def test_a_pointer_that_doubts_between_two_things_chooses_one():
    logits = torch.full((1, 1, 1, 15), -9.0)
    logits[..., 0], logits[..., 1], logits[..., 14] = 5.0, 4.0, 4.9  # the two ends of a grid of 3 x 5
    weight = around_best(logits, (3, 5))[0, 0, 0]
    assert weight.sum() == pytest.approx(1)
    assert weight[14] == 0
    assert weight[0] / weight[1] == pytest.approx(math.e, rel=1e-4)
    assert weight[[0, 1, 5, 6]].min() > 0 == weight[2:5].max()


def test_pointers_point_into_the_cell_that_answers(tmp_path):
    torch.manual_seed(0)
    pointers = Pointers(16)
    grid = (3, 5)
    slots, visual = torch.randn(2, 5, 16), torch.randn(2, 2, 15, 16)
    found = pointers(slots, visual, grid)
    assert found.places_BVS2.shape == (2, 2, 5, 2)
    assert found.places_BVS2.abs().max() <= 1
    assert ((found.extents_BVS2 > 0) & (found.extents_BVS2 < 1)).all()
    # With all the weight on one cell, the place lies in that cell.
    with torch.no_grad():
        pointers.query.weight.mul_(200)
    found = pointers(slots, visual, grid)
    best = found.logits_BVSN.argmax(-1)
    inside = (found.places_BVS2 - cell_centres(grid)[best]).abs() * torch.tensor([5.0, 3.0])
    sure = found.logits_BVSN.softmax(-1).amax(-1) > 0.9999
    assert sure.any()
    assert inside[sure].max() <= 1.001
    pointers.save(tmp_path)
    same = Pointers.load(tmp_path, 16)(slots, visual, grid)
    assert torch.equal(same.places_BVS2, found.places_BVS2)
    with pytest.raises(ValueError, match="width 8"):
        Pointers.load(tmp_path, 8)


def test_a_folder_without_pointers_gets_fresh_ones_and_a_warning(tmp_path, caplog):
    Pointers.load(tmp_path, 16)
    assert "point at nothing" in caplog.text


def test_cell_centres_run_row_by_row_from_the_top_left():
    assert cell_centres((1, 2)).tolist() == [[-0.5, 0.0], [0.5, 0.0]]
    assert cell_centres((2, 1)).tolist() == [[0.0, -0.5], [0.0, 0.5]]


def test_preprocessor_numbers_of_a_foreign_folder_are_used(backbone, tmp_path):
    backbone.save(tmp_path)
    (unsealed(tmp_path) / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0, 0, 0], "image_std": [1, 1, 1]})
    )
    assert Backbone.load(tmp_path).mean == (0, 0, 0)
