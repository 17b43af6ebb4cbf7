"""Decisions a second, and one decision of K tokens against K tokens from `generate()` of the same backbone."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from transformers import Idefics3ForConditionalGeneration

from vla_rl.actions import Binned, Chunk
from vla_rl.autotune.backbone import tune
from vla_rl.autotune.feature_cache import any_observation
from vla_rl.autotune.timing import interleaved
from vla_rl.bench.ways import decide, measure_ways
from vla_rl.config.policy import PolicySettings
from vla_rl.envs import ObservationShape
from vla_rl.models.backbone import Backbone
from vla_rl.models.policy import Policy
from vla_rl.models.processor import pixels_to_floats
from vla_rl.models.settings import Tiny
from vla_rl.models.sizes import SmolVLM256M
from vla_rl.specs import IMAGES, TASK

BATCHES = (1, 8, 32)
HORIZON, NUMBERS, BINS = 4, 2, 7
"""A decision is a chunk of 4 actions of 2 numbers: K = 8 tokens."""
TOKENS = HORIZON * NUMBERS
LIMIT = 20.0
"""Seconds that a round may take; batches for which one decision takes longer are left out."""


def bench_policy(as_json: bool = False, large: bool = False) -> None:
    """Print the numbers of `measure_policy` for the backbone that ships; with `large`, SmolVLM-256M's shape too. And of
    `measure_ways`."""
    found = {"tiny": measure_policy(Tiny()), "tiny_ways": measure_ways(Tiny(), HORIZON, NUMBERS, BINS, BATCHES)}
    if large:
        for size in (64, 512):
            found[f"smolvlm_256m_{size}px"] = measure_policy(SmolVLM256M(size))
    # The number that sums it up, on top: that of the backbone which ships, at batch 1.
    summary = {"decode_over_generate": found["tiny"]["decode_over_generate_b1"], **found}
    if as_json:
        print(json.dumps(summary))
        return
    for name, numbers in found.items():
        for key, value in numbers.items():
            print(f"{name:22} {key:38} {value if isinstance(value, str) else format(value, '10.3f')}")


def measure_policy(backbone: Any, side: int = 64, batches: tuple[int, ...] = BATCHES) -> dict[str, Any]:
    """Rates from uint8 pictures of `side` pixels and a text on, at each batch size B; greedy, median of the rounds.

    On the GPU where there is one; precision and compiling as `auto` chooses them (`backbone` says what that was), the
    same precision for `generate()`.

    `decisions_per_s_b<B>`, `actions_per_s_b<B>`: a decision is a chunk of `HORIZON` actions.
    `decode_over_generate_b<B>`: how many times as long the backbone's own `generate()` takes for as many tokens, from
    the same pictures and prompt. `decode_over_cached_generate_b<B>`: the same with key/value states kept from token to
    token, which a backbone that ships without (`tiny`) does only without the head that it was taught with.
    """
    settings = PolicySettings(backbone)
    space = Chunk(Binned(BINS), HORIZON).bind(spaces.Box(-1, 1, (NUMBERS,)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    policy = Policy.build(settings, space, ["front"], state_dim=0, seed=0).to(device).eval()
    shape = ObservationShape({IMAGES + "front": (side, side, 3)}, state=0)
    found: dict[str, Any] = {"backbone": tune(policy, "auto", "auto", any_observation(policy, shape, batches[0]))}
    rival = copy.deepcopy(policy.trunk.backbone.model)  # the copy is not compiled
    for rows in batches:
        seen = any_observation(policy, shape, rows)
        generate = generators(rival, policy.trunk.backbone, seen)
        works: list[Callable[[], Any]] = [partial(decide, policy, seen), *generate]
        with torch.inference_mode():
            for work in works:
                work()
            first = interleaved(works, policy.device, [1] * len(works), rounds=1)
            if first.sum() > LIMIT:
                break
            repeats = [int(np.clip(0.3 / each, 1, 20)) for each in first[0]]
            times = interleaved(works, policy.device, repeats)
        own, plain, cached = np.median(times, 0)
        rates = {
            f"decisions_per_s_b{rows}": rows / own,
            f"actions_per_s_b{rows}": rows * HORIZON / own,
            f"decode_over_generate_b{rows}": plain / own,
            f"decode_over_cached_generate_b{rows}": cached / own,
        }
        found |= {name: float(value) for name, value in rates.items()}
    return found


def generators(own: Any, backbone: Backbone, seen: dict[str, Any]) -> list[Callable[[], np.ndarray]]:
    """`generate()` of the backbone's model `own` as it ships, and of the family's stock class, which keeps key/value
    states."""
    stock = own if own.config.get_text_config().use_cache else _stock(own)
    prompt = backbone.prompt(seen[TASK])

    def generate(model: Any, cache: bool) -> np.ndarray:
        images = torch.from_numpy(seen[IMAGES + "front"]).unsqueeze(1).to(backbone.device)
        pixels = pixels_to_floats(images, backbone.image_size, backbone.mean, backbone.std)
        tokens = model.generate(
            input_ids=prompt.ids_BT,
            attention_mask=prompt.mask_BT,
            pixel_values=pixels.to(model.dtype),
            max_new_tokens=TOKENS,
            min_new_tokens=TOKENS,
            do_sample=False,
            use_cache=cache,
        )
        return tokens[:, -TOKENS:].cpu().numpy()

    return [lambda: generate(own, stock is own), lambda: generate(stock, True)]


def _stock(model: Any) -> Any:
    """The same layers in the class that they come from."""
    with torch.device("meta"):
        stock = Idefics3ForConditionalGeneration(model.config)
    stock.model, stock.lm_head = model.model, model.lm_head
    return stock.eval()
