"""The head that says a decision token by token: the backbone's language model goes on with its own sequence.

A token of a slot with C choices is one of the last C of the vocabulary (OpenVLA, arXiv 2406.09246), special ones left
out. What heads read of features, which no sequence holds, is added to what each step is given.

Shapes: B rows, n decisions a row, K slots, C choices of a slot (the most of all), R readout, W width of the head,
D width of the language model, P tokens of the prefix, Q new tokens, T tokens in the cache.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from vla_rl.actions import compressed
from vla_rl.config.policy import HeadSettings
from vla_rl.models import prefix, sampling
from vla_rl.models.backbone import Backbone
from vla_rl.models.features import Features
from vla_rl.models.heads import ActionHead, bent, layers
from vla_rl.models.sampling import FORBIDDEN
from vla_rl.specs import ActionSpace, Slot


def make_head(
    settings: HeadSettings,
    action_space: ActionSpace,
    readout_size: int,
    backbone: Backbone,
    place_views: Sequence[int],
    told: int = 0,
    decoder: nn.Module | None = None,
) -> ActionHead | SpokenHead:
    """A head of the settings' type, untrained; see both for what they take.

    Raises:
        ValueError: it cannot serve the action space, or the backbone cannot serve it.
    """
    slots, name = action_space.slots, type(action_space).__name__
    if settings.type == "parallel":
        if compressed(action_space):
            raise ValueError(
                f"policy.head.type=parallel: what a token of action_space {name} means depends on those before it, "
                "which such a head does not see; take policy.head.type=autoregressive, or action_space.type=chunk"
            )
        return ActionHead(settings, slots, readout_size, backbone.hidden_size, place_views, backbone.grid, told)
    if any(slot.kind == "word" for slot in slots):
        raise ValueError(
            f"policy.head.type=autoregressive: action_space {name} copies words of the instruction, for which a "
            "vocabulary has no tokens; take policy.head.type=parallel"
        )
    return SpokenHead(settings, slots, readout_size, backbone, decoder)


class SpokenHead(nn.Module):
    """Readout -> MLP -> what each step is given, beside the token before it; and the tokens' rows.

    Rows that are looked up, and those that are compared with, are the head's own, so that a frozen backbone stays as it
    is; they start as the vocabulary's.

    Attributes:
        decoder: the copy that speaks in the backbone's place; None where that does.
        advantage: as of `ActionHead`.
        reader: None; see `ActionHead`.
    """

    reader = None

    def __init__(
        self, settings: HeadSettings, slots: Sequence[Slot], readout_size: int, backbone: Backbone, decoder: Any = None
    ) -> None:
        """decoder: a `copied` language model that is to speak.

        Raises:
            ValueError: the backbone cannot go on with a sequence, or its vocabulary is too small.
        """
        super().__init__()
        self.settings, self.slots = settings, tuple(slots)
        choices = max(slot.choices for slot in slots)
        ids = torch.tensor(action_tokens(backbone, choices), device=backbone.device)
        self.decoder = decoder
        prefix.language_model(backbone)  # raises where there is none
        self.trunk = layers(settings, readout_size)
        self.queries = nn.Parameter(torch.empty(len(slots), backbone.hidden_size))
        self.steps = nn.Parameter(torch.empty(len(slots), settings.width, backbone.hidden_size))
        with torch.no_grad():
            table = backbone.model.get_input_embeddings()
            self.said = nn.Parameter(table(ids).float().clone())
            self.rows = nn.Parameter(backbone.model.get_output_embeddings().weight[ids].float().clone())
        self.bias = nn.Parameter(torch.empty(len(slots), choices))
        initialise(self)
        self.advantage: nn.Parameter | None = None
        if settings.advantage:
            self.condition()

    def condition(self) -> None:
        """As `ActionHead.condition`."""
        self.advantage = nn.Parameter(torch.zeros(2, self.settings.width, device=self.queries.device))

    def forward(
        self,
        readout_BR: torch.Tensor,
        features: Features,
        good_B: torch.Tensor | None,
        backbone: Backbone,
        action_space: ActionSpace,
    ) -> Spoken:
        """What there is to say of the rows. good_B: as of `ActionHead.forward`."""
        with torch.autocast(readout_BR.device.type, enabled=False):
            x_BW = bent(self.trunk, readout_BR, self.advantage, good_B)
            x_BKD = torch.einsum("bw,kwd->bkd", x_BW, self.steps) + self.queries
        return Spoken(action_space, self, backbone, x_BKD, features)


@dataclass(frozen=True)
class Spoken:
    """Choices of which each depends on the tokens before it; see `sampling.Choices`.

    All decisions of a row share its prefix: they lie in one sequence, and see the prefix and themselves alone.

    x_BKD: what each step is given. features: with a prefix.
    """

    action_space: ActionSpace
    head: SpokenHead
    backbone: Backbone
    x_BKD: torch.Tensor
    features: Features

    def __len__(self) -> int:
        return len(self.x_BKD)

    def rows(self, index: Any) -> Spoken:
        return replace(self, x_BKD=self.x_BKD[index], features=self.features.rows(index))

    @torch.no_grad()
    def sample(self, noise_BnK: torch.Tensor) -> torch.Tensor:
        return self._spell(noise_BnK.shape[1], lambda log_BnC, k: sampling.draw(log_BnC, noise_BnK[..., k : k + 1]))

    @torch.no_grad()
    def greedy(self) -> torch.Tensor:
        return self._spell(1, lambda log_BnC, k: log_BnC.argmax(-1, keepdim=True)).squeeze(1)

    def log_prob(self, tokens_BnK: torch.Tensor) -> torch.Tensor:
        each = [log_BnC.gather(-1, tokens_BnK[..., k : k + 1]) for k, log_BnC in enumerate(self.given(tokens_BnK))]
        return torch.cat(each, -1).sum(-1)

    def cross_entropy(self, labels_BK: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
        labels_B1K = labels_BK.unsqueeze(1)
        if smoothing <= 0:
            return -self.log_prob(labels_B1K).squeeze(1)
        total_B = torch.zeros_like(self.x_BKD[:, 0, 0])
        for k, (slot, log_B1C) in enumerate(zip(self.action_space.slots, self.given(labels_B1K), strict=True)):
            allowed_BC = log_B1C[:, 0] > FORBIDDEN / 2
            target_BC = sampling.spread(slot, labels_BK[:, k], smoothing, allowed_BC)
            total_B = total_B - (target_BC * log_B1C[:, 0]).sum(-1)
        return total_B

    def entropy(self, tokens_BnK: torch.Tensor | None) -> torch.Tensor:
        return -self._mean(tokens_BnK, None)

    def divergence(self, other: Spoken, tokens_BnK: torch.Tensor | None) -> torch.Tensor:
        return self._mean(tokens_BnK, other)

    def given(self, tokens_BnK: torch.Tensor) -> list[torch.Tensor]:
        """In one pass, the log-probabilities [B, n, C_k] of each slot's tokens, given those before; about FORBIDDEN
        where the grammar does not allow one."""
        cache = self._cache()
        found = self._logits(cache, tokens_BnK, 0, tokens_BnK.shape[-1])
        return [self._masked(logits, tokens_BnK[:, :, :k]) for k, logits in enumerate(found)]

    # --- parts ----------------------------------------------------------------------------------------------

    def _spell(self, n: int, choose: Any) -> torch.Tensor:
        """n decisions a row, int64 [B, n, K]: `choose` takes log-probabilities [B, n, C] and k, and gives [B, n, 1].

        Where one token alone is allowed, it is taken unread, until something is to be chosen again.
        """
        B, K = self.x_BKD.shape[:2]
        tokens_BnK = torch.zeros(B, n, K, dtype=torch.int64, device=self.x_BKD.device)
        cache, read = self._cache(), 0
        for k in range(K):
            mask_BnC = self._mask(tokens_BnK[:, :, :k])
            if mask_BnC is not None and bool((mask_BnC.sum(-1) == 1).all()):
                tokens_BnK[:, :, k] = mask_BnC.int().argmax(-1)
                continue
            logits = self._logits(cache, tokens_BnK, read, k + 1)[-1].expand(-1, n, -1)
            read = k + 1
            log_BnC = logits if mask_BnC is None else logits.masked_fill(~mask_BnC, FORBIDDEN)
            tokens_BnK[:, :, k] = choose(log_BnC, k).squeeze(-1)
        return tokens_BnK

    def _mean(self, tokens_BnK: torch.Tensor | None, other: Spoken | None) -> torch.Tensor:
        """[B]: KL(these || other), or the negative entropy of these, over the prefixes of their samples; the gradient
        counts that other probabilities would have brought other prefixes."""
        assert tokens_BnK is not None, "what depends on tokens before is averaged over samples"
        mine = self.given(tokens_BnK)
        theirs = None if other is None else other.given(tokens_BnK)
        total_B, said_Bn = torch.zeros_like(self.x_BKD[:, 0, 0]), torch.zeros((), device=self.x_BKD.device)
        for k, log_BnC in enumerate(mine):
            beside_BnC = log_BnC if theirs is None else log_BnC - theirs[k]
            each_Bn = (log_BnC.exp() * beside_BnC).sum(-1)
            if k and each_Bn.requires_grad:
                each_Bn = each_Bn + sampling.of_the_prefixes(each_Bn.detach(), said_Bn)
            said_Bn = said_Bn + log_BnC.gather(-1, tokens_BnK[:, :, k : k + 1]).squeeze(-1)
            total_B = total_B + each_Bn.mean(1)
        return total_B

    def _mask(self, prefix_Bnk: torch.Tensor) -> torch.Tensor | None:
        if not sampling.masked(self.action_space, prefix_Bnk.shape[-1]):
            return None
        return sampling.mask_after(self.action_space, prefix_Bnk)

    def _masked(self, logits_BnC: torch.Tensor, prefix_Bnk: torch.Tensor) -> torch.Tensor:
        mask_BnC = self._mask(prefix_Bnk)
        logits_BnC = logits_BnC.expand(-1, prefix_Bnk.shape[1], -1)
        logits_BnC = logits_BnC if mask_BnC is None else logits_BnC.masked_fill(~mask_BnC, FORBIDDEN)
        return torch.log_softmax(logits_BnC, -1)

    def _cache(self) -> DynamicCache:
        assert self.features.prefix is not None, "features without a prefix"
        return prefix.cached(self.backbone, self.features.prefix, next(self._decoder.parameters()).dtype)

    @property
    def _decoder(self) -> nn.Module:
        return self.head.decoder or prefix.language_model(self.backbone)

    def _logits(self, cache: DynamicCache, tokens_BnK: torch.Tensor, begin: int, end: int) -> list[torch.Tensor]:
        """Of the steps from `begin` to before `end`, [B, n, C_k] each, of step 0 [B, 1, C]; the cache holds the steps
        before, and then these.

        Step 0 is one token that all decisions see; each further one is n tokens, one a decision.
        """
        assert self.features.prefix_mask is not None, "a prefix without a mask"
        assert self.features.prefix_end is not None, "a prefix without an end"
        n, device = tokens_BnK.shape[1], tokens_BnK.device
        step_T = torch.tensor([k for k in range(end) for _ in range(n if k else 1)], device=device)
        which_T = torch.tensor([i for k in range(end) for i in range(n if k else 1)], device=device)
        new = slice(0 if begin == 0 else 1 + (begin - 1) * n, None)
        step_Q, which_Q = step_T[new], which_T[new]
        own_QT = (step_T <= step_Q[:, None]) & ((which_T == which_Q[:, None]) | (step_T == 0))
        before_BP = self.features.prefix_mask
        sees_BQT = torch.cat([before_BP[:, None].expand(-1, len(step_Q), -1), own_QT.expand(len(self), -1, -1)], -1)
        before_BQ = tokens_BnK[:, which_Q, (step_Q - 1).clamp_min(0)]
        x_BQD = self.x_BKD[:, step_Q] + self.head.said[before_BQ] * (step_Q > 0)[:, None]
        with torch.autocast(device.type, enabled=False):
            position_BQ = self.features.prefix_end[:, None] + step_Q
            hidden_BQD = prefix.go_on(self._decoder, cache, x_BQD, sees_BQT, position_BQ)
            logits_BQC = hidden_BQD @ self.head.rows.T + self.head.bias[step_Q]
        sizes = [n if k else 1 for k in range(begin, end)]
        found = logits_BQC.split(sizes, 1)
        return [each[..., : self.head.slots[begin + i].choices] for i, each in enumerate(found)]


def action_tokens(backbone: Backbone, count: int) -> list[int]:
    """The last `count` tokens of a backbone's vocabulary that are ordinary ones.

    Raises:
        ValueError: there are fewer.
    """
    tokenizer = backbone.tokenizer
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    ordinary = sorted(set(tokenizer.get_vocab().values()) - special)
    if len(ordinary) < count:
        raise ValueError(
            f"policy.head.type=autoregressive: a token of action_space has {count} choices, and this backbone's "
            f"vocabulary {len(ordinary)} ordinary tokens; take fewer (action_space.bins, grid, vocabulary), or "
            "policy.head.type=parallel"
        )
    return ordinary[-count:]


def copied(backbone: Backbone) -> nn.Module:
    """The layers of a backbone's language model, in float32, to train; its vocabulary stays behind."""
    language = prefix.language_model(backbone)
    table = language.get_input_embeddings()  # type: ignore[operator]
    found = copy.deepcopy(language, {id(table): nn.Identity()})
    return found.float().requires_grad_(True)


def initialise(head: SpokenHead) -> None:
    """All starting weights of a head.

    | part | start |
    |---|---|
    | MLP | PyTorch's defaults |
    | rows of tokens, looked up and compared with | the vocabulary's |
    | a copied decoder | the backbone's layers |
    | queries | the mean of the rows that are looked up, and normal noise of their spread |
    | what each step is told of the readout | normal 1 / sqrt(W), in units of that spread |
    | bias of tokens | 0 |
    """
    spread = head.said.detach().std()
    with torch.no_grad():
        head.queries.copy_(head.said.mean(0) + torch.randn_like(head.queries) * spread)
        head.steps.copy_(torch.randn_like(head.steps) * spread / math.sqrt(head.settings.width))
    nn.init.zeros_(head.bias)
