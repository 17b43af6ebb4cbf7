"""The backbone that ships: it loads strictly, is small, and points and answers on fresh pictures as its card says."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from families import Random
from safetensors.torch import load_file, save_file

from sims.grounding.exams import EXAMS, exam
from sims.grounding.picture import Split
from sims.grounding.samples import LABELS, batches, draw, questions
from vla_rl.grounding.pretrain import Recipe, batch_losses, encode, ground
from vla_rl.grounding.scores import CARD, answer, score, score_pointing
from vla_rl.models.backbone import Backbone
from vla_rl.models.pointers import FILE, Pointers, cells_at
from vla_rl.models.tiny import SIZE, adopt, average, initialise, tiny_config, tiny_tokenizer
from vla_rl.paths import shipped

FRESH_SEED = 77
"""Of pictures that neither training nor the card's exams drew."""


@pytest.fixture(scope="module")
def folder() -> Path:
    return shipped("assets") / "backbones" / "tiny"


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Backbone:
    return Backbone.load(folder)


@pytest.fixture(scope="module")
def pointers(folder: Path, backbone: Backbone) -> Pointers:
    assert (folder / FILE).exists()
    return Pointers.load(folder, backbone.hidden_size)


@pytest.fixture(scope="module")
def card(folder: Path) -> dict:
    return json.loads((folder / CARD).read_text())


def small() -> Backbone:
    """An untrained backbone of the shipped architecture."""
    tokenizer = tiny_tokenizer(["reach the red cube", "push the blue ball to the green mark"])
    made = Backbone.from_config(tiny_config(len(tokenizer), width=32), tokenizer, SIZE)
    initialise(made.model)
    return made


def test_the_folder_is_small_and_holds_no_pickle(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8e6
    assert {file.suffix for file in folder.iterdir()} <= {".json", ".safetensors", ".jinja"}


def test_the_card_names_every_exam(card: dict) -> None:
    assert set(card["scores"]) == set(EXAMS)
    assert card["made"]["training_s"] > 0


@pytest.mark.parametrize("name", ["table, front camera", "screen"])
def test_fresh_pictures_score_as_the_card_says(name: str, backbone: Backbone, pointers: Pointers, card: dict) -> None:
    """A little under the card: a tenth of its questions, other pictures."""
    paper = exam(name, count=120, seed=FRESH_SEED)
    found, said = score(backbone.at(paper["point"][0]["images"].shape[1]), pointers, paper), card["scores"][name]
    for key in ("hit", "confidence"):
        assert found[key] >= said[key] - 0.08, key
    for key in ("first_px", "second_px", "self_px"):
        assert found[key] <= 1.5 * said[key] + 0.1, key
    for key in ("location", "colour", "shape", "relation"):
        assert found[key] >= said[key] - 0.2, key


@pytest.mark.parametrize("name", ["table, new combinations", "table, new cameras", "table, new backgrounds"])
def test_what_training_never_showed_scores_as_the_card_says(
    name: str, backbone: Backbone, pointers: Pointers, card: dict
) -> None:
    found = score_pointing(backbone, pointers, exam(name, count=120, seed=FRESH_SEED)["point"])
    assert found["hit"] >= card["scores"][name]["hit"] - 0.12


def test_it_answers_in_words(backbone: Backbone) -> None:
    (picture, asked), *_ = questions(draw("sketch", Split(), seed=1_234_567, count=20), "colour", seed=0)
    said = answer(backbone, np.stack([picture.image]), [asked.text])
    assert said[0].isalpha()


def test_saved_weights_come_back_exactly(tmp_path: Path) -> None:
    made = small()
    made.save(tmp_path)
    again = Backbone.load(tmp_path)
    images, texts = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8), ["reach the red cube", "go"]
    with torch.no_grad():
        first, second = (encode(each, images, each.prompt(texts)) for each in (made, again))
    assert torch.equal(first.tokens_BTD, second.tokens_BTD)
    assert torch.equal(first.visual_BVND, second.visual_BVND)


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_weights_that_do_not_fit_are_refused(change: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    file = tmp_path / "copy" / "model.safetensors"
    weights = load_file(file)
    stem = next(name for name in weights if "patch_embedding" in name)
    if change == "unexpected":
        weights["other"] = weights[stem].clone()
    else:
        del weights[stem]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"{change} keys"):
        Backbone.load(tmp_path / "copy")


def test_the_model_computes_logits_and_a_loss_like_any_other() -> None:
    made = small()
    prompt = made.prompt(["reach the red cube"])
    pixels = torch.rand(1, 1, 3, 64, 64)  # not zeros: the stock model drops such images as padding
    out = made.model(input_ids=prompt.ids_BT, pixel_values=pixels, labels=prompt.ids_BT)
    assert out.logits.shape == (1, prompt.ids_BT.shape[1], len(made.tokenizer))
    assert torch.isfinite(out.loss)
    last = made.model(input_ids=prompt.ids_BT, pixel_values=pixels, logits_to_keep=1).logits
    torch.testing.assert_close(last[:, 0], out.logits[:, -1])


def test_a_text_of_unknown_words_is_read_by_its_bytes() -> None:
    made = small()
    ids = made.tokenizer("Zwölf Äpfel 🍎", add_special_tokens=False).input_ids
    assert made.tokenizer.decode(ids).strip() == "zwölf äpfel 🍎"


def test_training_learns_and_is_reproducible() -> None:
    pictures = draw("sketch", Split(), seed=2, count=64)

    def losses(steps: int) -> list[float]:
        torch.manual_seed(0)
        made = small()
        pointers, recipe = Pointers(made.hidden_size), Recipe(steps, apart_first=steps // 3, warm_up=4)
        ground(made, pointers, batches(pictures, 8, steps, seed=0), recipe, LABELS)
        (batch,) = batches(pictures, 32, 1, seed=1)
        with torch.no_grad():
            return [float(v) for v in batch_losses(made, pointers, batch, recipe).values()]

    after = losses(15)
    assert after == losses(15)
    assert sum(after) < sum(losses(0))


def test_pointers_alone_train_on_a_frozen_backbone() -> None:
    made = small()
    pointers, before = Pointers(made.hidden_size), {k: v.clone() for k, v in made.state_dict().items()}
    pictures = draw("sketch", Split(), seed=2, count=32)
    query = pointers.query.weight.detach().clone()
    ground(made, pointers, batches(pictures, 16, 3, seed=0), Recipe(steps=3, trainable="pointers"))
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())
    assert not torch.equal(query, pointers.query.weight)
    with pytest.raises(ValueError, match=r"trainable must be 'all', .*, 'pointers' or 'second'; got 'head'"):
        ground(made, pointers, batches(pictures, 16, 1, seed=0), Recipe(steps=1, trainable="head"))


def test_the_second_look_alone_trains() -> None:
    made = small()
    pointers = Pointers(made.hidden_size)
    before = {k: v.clone() for k, v in (made.state_dict() | pointers.state_dict()).items()}
    pictures = draw("screen", Split(sides=(64,), grids=1.0), seed=2, count=32)
    recipe = Recipe(steps=3, trainable="second", own_sizes=True)
    ground(made, pointers, batches(pictures, 16, 3, seed=0, relations=1.0), recipe)
    changed = {k for k, v in (made.state_dict() | pointers.state_dict()).items() if not torch.equal(before[k], v)}
    assert changed
    assert all(name.startswith("second.") for name in changed)
    with pytest.raises(ValueError, match="these pointers look once"):
        ground(made, Pointers(made.hidden_size, twice=False), batches(pictures, 16, 3, seed=0), recipe)


def test_a_frozen_language_model_may_compute_in_half_precision() -> None:
    torch.manual_seed(0)
    other = Random("smolvlm").load()
    pointers, pictures = Pointers(other.hidden_size), draw("sketch", Split(), seed=2, count=16)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    ground(other, pointers, batches(pictures, 8, 2, seed=0), Recipe(2, trainable="connector", half=True))
    assert all(value.dtype == torch.float32 for value in other.state_dict().values())
    layers = [name for name in before if "text_model.layers" in name]
    assert layers
    assert all(torch.equal(other.state_dict()[name], before[name]) for name in layers)


@pytest.mark.parametrize("family", ["smolvlm", "qwen2_5_vl"])
@pytest.mark.parametrize("trainable", ["pointers", "tokens", "connector", "all"])
def test_other_backbones_are_grounded_by_the_same_code(family: str, trainable: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    other = Random(family).load()
    pointers, pictures = Pointers(other.hidden_size), draw("sketch", Split(), seed=2, count=16)
    recipe, seen = Recipe(steps=12, learning_rate=3e-3, warm_up=2, trainable=trainable), []
    (batch,) = batches(pictures, 16, 1, seed=1)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    ground(other, pointers, [batch] * 12, recipe)
    moved = [name for name, value in other.state_dict().items() if not torch.equal(value, before[name])]
    if trainable in ("tokens", "connector"):
        table, ids = (
            other.model.get_input_embeddings().weight,
            other.tokenizer.convert_tokens_to_ids(["<ptr>", "<self>"]),
        )
        rows = [name for name in moved if "embed_tokens" in name or "lm_head" in name]
        assert (table != before[rows[0]]).any(1).nonzero()[:, 0].tolist() == ids
        others = set(moved) - set(rows)
        assert all("connector" in name or "merger" in name for name in others)
        assert bool(others) == (trainable == "connector")
    assert bool(moved) == (trainable != "pointers")
    for each in (Pointers(other.hidden_size), pointers):
        with torch.no_grad():
            seen.append(sum(float(v) for v in batch_losses(other, each, batch, recipe).values()))
    assert seen[1] < seen[0]
    other.save(tmp_path)
    pointers.save(tmp_path)
    again, found = Backbone.load(tmp_path, image_size=32), Pointers.load(tmp_path, other.hidden_size)
    np.testing.assert_equal(score_pointing(again, found, [batch]), score_pointing(other, pointers, [batch]))


def test_a_place_lies_in_its_cell() -> None:
    places = torch.tensor([[-1.0, -1.0], [-0.9, 0.99], [0.01, -0.3], [1.0, 1.0]])
    assert cells_at(places, (8, 8)).tolist() == [0, 56, 2 * 8 + 4, 63]
    assert cells_at(places, (2, 4)).tolist() == [0, 4, 2, 7]


def test_a_larger_model_computes_what_the_one_did_that_it_adopts() -> None:
    larger = small()
    config = copy.deepcopy(larger.model.config)
    config.composed, config.vision_config.image_size = 0, SIZE
    config.vision_config.num_hidden_layers, config.vision_config.intermediate_size = 2, 16
    config.text_config.num_hidden_layers = config.text_config.num_hidden_layers - 1
    config.text_config.layer_types = None
    old = Backbone.from_config(config, larger.tokenizer)
    initialise(old.model)
    assert len(list(old.parameters())) < len(list(larger.parameters()))
    before = {name: value.clone() for name, value in larger.model.state_dict().items()}
    adopt(larger.model, larger.tokenizer, old.model, old.tokenizer)
    pixels = torch.rand(2, 1, 3, SIZE, SIZE)
    prompt = larger.prompt(["reach the red cube", "push the blue ball"])
    with torch.no_grad():
        torch.testing.assert_close(larger(pixels, prompt).tokens_BTD, old(pixels, prompt).tokens_BTD)
    inner = "model.vision_model.encoder.layers.3.mlp.fc1.weight"
    assert torch.equal(larger.model.state_dict()[inner], before[inner]), "what only the larger has may start anywhere"


def test_an_average_of_weights_goes_by_shares_and_keeps_counts() -> None:
    states = [{"weight": torch.full((2,), value), "count": torch.tensor(7)} for value in (1.0, 4.0)]
    averaged = average(states, [2, 1])
    torch.testing.assert_close(averaged["weight"], torch.full((2,), 2.0))
    assert averaged["count"] == 7
    assert states[0]["weight"].tolist() == [1.0, 1.0]
    alike = [small().model.state_dict()] * 3
    torch.testing.assert_close(average(alike, [0.2, 0.3, 0.5]), alike[0])


def test_places_of_a_finer_image_lie_between_those_that_were_known() -> None:
    new = small()
    config = copy.deepcopy(new.model.config)
    config.vision_config.image_size = SIZE
    old = Backbone.from_config(config, new.tokenizer)
    initialise(old.model)
    adopt(new.model, new.tokenizer, old.model, old.tokenizer)
    larger = new.at(96)
    assert (larger.grid, new.grid) == ((12, 12), (8, 8))
    assert new.at(96) is larger
    assert larger.at(SIZE) is not larger
    embeddings = new.model.model.vision_model.embeddings.position_embedding.weight.view(24, 24, -1)
    torch.testing.assert_close(embeddings[1, 0] - embeddings[0, 0], embeddings[2, 0] - embeddings[1, 0])
    prompt = larger.prompt(["reach the red cube"])
    assert larger(torch.rand(1, 1, 3, 96, 96), prompt).visual_BVND.shape == (1, 1, 144, 32)
