"""Pictures that are cut into tiles: as the families' own processors and models do it, and put together for pointers."""

import numpy as np
import pytest
import torch
from families import FAMILIES, Random, observation
from gymnasium import spaces
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor

from vla_rl.actions import Binned
from vla_rl.config.policy import HeadSettings, PolicySettings
from vla_rl.models.backbone import Backbone
from vla_rl.models.families import family_of
from vla_rl.models.policy import Policy
from vla_rl.models.processor import pixels_to_floats
from vla_rl.models.samples import byte_tokenizer
from vla_rl.models.settings import Pretrained
from vla_rl.models.tiles import cut

TILED = ("idefics3", "smolvlm", "llava_next", "llava_onevision", "internvl")
SPELLED = ("<image>", "<fake_token_around_image>", "<global-img>", "<row_1_col_1>", "<row_1_col_2>",
           "<row_2_col_1>", "<row_2_col_2>")  # fmt: skip


def tiled(family: str, tiles: int = 2) -> Backbone:
    """Of random weights; it sees 64 pixels as 2 x 2 tiles of 32 and as a whole."""
    torch.manual_seed(0)
    made = Random(family).load()
    words = byte_tokenizer(*SPELLED) if family in ("idefics3", "smolvlm") else made.tokenizer
    return Backbone(made.model, words, tiles=tiles).eval()


def picture(side: int = 64) -> np.ndarray:
    """uint8 [1, 1, side, side, 3], smooth, so that ways to resize it hardly differ."""
    y, x = np.mgrid[:side, :side] / side
    return np.stack([255 * x, 255 * y, 128 + 100 * np.sin(5 * x + 3 * y)], -1).astype(np.uint8)[None, None]


def seen_by(backbone: Backbone, image: np.ndarray) -> torch.Tensor:
    return pixels_to_floats(torch.as_tensor(image), backbone.image_size, backbone.mean, backbone.std)


@pytest.mark.parametrize("family", TILED)
def test_the_pointers_grid_is_that_of_the_tiles_each_seen_by_itself(family):
    backbone = tiled(family)
    pixels = seen_by(backbone, picture())
    single = Backbone(backbone.model, backbone.tokenizer, 32).eval()
    assert (backbone.image_size, backbone.grid) == (64, (8, 8))
    with torch.no_grad():
        grid = backbone.look(pixels)[0, 0].view(8, 8, -1)
        for row in (0, 1):
            for column in (0, 1):
                tile = pixels[..., 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
                alone = single.look(tile)[0, 0].view(4, 4, -1)
                here = grid[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                torch.testing.assert_close(here, alone, atol=1e-5, rtol=1e-4)


def test_idefics_spells_and_cuts_a_picture_as_its_processor_does():
    backbone = tiled("idefics3")
    image = picture()
    stock = Idefics3ImageProcessorPil(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    processor = Idefics3Processor(stock, byte_tokenizer(*SPELLED), image_seq_len=16)
    made = processor(images=[[image[0, 0]]], text="<image>", return_tensors="pt")
    opening, _ = backbone._frame(1)
    assert opening[1:] == made["input_ids"][0].tolist()  # but for the token that begins a text
    ours = cut(seen_by(backbone, image), 2)
    torch.testing.assert_close(ours[0, :4], made["pixel_values"][0, :4], atol=1e-5, rtol=0)
    assert (ours[0, 4] - made["pixel_values"][0, 4]).abs().mean() < 0.01  # it resizes by another filter


@pytest.mark.parametrize("family", ["idefics3", "smolvlm", "internvl"])
def test_the_language_model_reads_what_the_stock_model_reads_of_the_same_pictures(family):
    backbone = tiled(family)
    pixels, prompt = seen_by(backbone, picture()), backbone.prompt(["go to it"])
    pictures = cut(pixels, 2)
    with torch.no_grad():
        ours = backbone(pixels, prompt).tokens_BTD
        given = pictures[0] if family == "internvl" else pictures
        stock = backbone.model.model(input_ids=prompt.ids_BT, pixel_values=given).last_hidden_state
    torch.testing.assert_close(ours, stock, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["llava_next", "llava_onevision"])
def test_llava_packs_tiles_as_the_stock_model_does(family):
    backbone = tiled(family)
    backbone.model.config.image_grid_pinpoints = [[64, 64]]
    pixels, prompt = seen_by(backbone, picture()), backbone.prompt(["go to it"])
    pictures = cut(pixels, 2)
    whole_first = torch.cat([pictures[:, -1:], pictures[:, :-1]], 1)
    with torch.no_grad():
        ours = backbone(pixels, prompt).tokens_BTD
        sizes = torch.tensor([[64, 64]])
        stock = backbone.model.model(input_ids=prompt.ids_BT, pixel_values=whole_first, image_sizes=sizes)
    torch.testing.assert_close(ours, stock.last_hidden_state, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", TILED)
def test_a_policy_with_tiles_reloads_to_the_same_logits(family, tmp_path):
    tiled(family, tiles=1).save(tmp_path / "model")
    settings = PolicySettings(Pretrained(str(tmp_path / "model"), tiles=2), HeadSettings(width=32))
    policy = Policy.build(settings, Binned(5).bind(spaces.Box(-1, 1, (3,))), ("front", "side"), 3, seed=0).eval()
    policy.save_pretrained(tmp_path / "policy")
    again = Policy.from_pretrained(tmp_path / "policy")
    assert again.trunk.backbone.tiles == 2
    assert again.trunk.digest() == policy.trunk.digest()
    shown = observation(2, cameras=("front", "side"))
    with torch.no_grad():
        ours, theirs = (each.logits(each.encode(shown)) for each in (policy, again))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(TILED)))
def test_a_family_that_sees_a_picture_as_a_whole_refuses_tiles(family):
    made = Random(family).load()
    with pytest.raises(ValueError, match=r"tiles 2: .* sees a picture as a whole; take 1"):
        Backbone(made.model, made.tokenizer, made.image_size, tiles=2)


def test_what_no_tiles_can_be_is_told_with_the_nearest_that_can():
    made = Random("idefics3").load()
    with pytest.raises(ValueError, match="tiles 7: a idefics3 backbone sees 1 to 6"):
        Backbone(made.model, made.tokenizer, tiles=7)
    with pytest.raises(ValueError, match="multiple of 16 for this idefics3 backbone with 2 x 2 tiles; nearest: 64"):
        Backbone(made.model, made.tokenizer, 68, tiles=2)
    assert family_of(made.model.config).tiling is not None
