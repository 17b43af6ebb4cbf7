"""The critic: several categorical value heads on frozen features and a decision's tokens; and the layers that all share
who judge decisions.

Shapes: B rows, N decisions a row, K slots, E critics, R readout, H width, Z value bins,
S slots of the pointers, D width of the backbone, T tokens, Q queries to them, Y width of a key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_rl.actions import compressed
from vla_rl.algorithms.actor_critic_config import ActorCriticConfig
from vla_rl.models import bounds
from vla_rl.models.clauses import EXTRA, ClauseReader
from vla_rl.models.features import Features
from vla_rl.models.pointers import SLOTS, cell_centres, cells_at
from vla_rl.models.policy import Policy
from vla_rl.models.progress import WORD_WIDTH, WordReader, at_points
from vla_rl.specs import Slot

_QUERIES, _KEY = 4, 32
"""Of a network to the token sequence, and the width of its keys and values."""


class Ensemble(nn.Module):
    """E linear layers of one shape, applied together: [E, ..., I] -> [E, ..., O]."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))
        nn.init.uniform_(self.weight, -1.0 / math.sqrt(inputs), 1.0 / math.sqrt(inputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class EnsembleNorm(nn.Module):
    """LayerNorm with a gain and a bias of its own for each of the E members."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(members, 1, width))
        self.bias = nn.Parameter(torch.zeros(members, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[-1:]), self.gain)


class TokenPool(nn.Module):
    """What each of E networks picks out of the tokens of images and text, by queries of its own.

    Without it a critic would judge by what the pointers say alone, and so at random where they were never taught.
    """

    def __init__(self, members: int, hidden_size: int, width: int) -> None:
        super().__init__()
        self.members = members
        self.told = Ensemble(members, hidden_size, 2 * _KEY)
        self.queries = nn.Parameter(torch.randn(members, _QUERIES, _KEY))
        self.out = Ensemble(members, _QUERIES * _KEY, width)

    def forward(self, tokens_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """[E, B, H]; the mask is True where there is a token."""
        flat_ND = F.layer_norm(tokens_BTD, tokens_BTD.shape[-1:]).flatten(0, 1)
        told_EBTX = self.told(flat_ND.expand(self.members, -1, -1)).unflatten(1, tokens_BTD.shape[:2])
        key_EBTY, value_EBTY = told_EBTX.split(_KEY, -1)
        score_EBQT = torch.einsum("eqy,ebty->ebqt", self.queries, key_EBTY) / math.sqrt(_KEY)
        weight_EBQT = score_EBQT.masked_fill(~mask_BT.unsqueeze(1), -torch.inf).softmax(-1)
        return self.out(torch.einsum("ebqt,ebty->ebqy", weight_EBQT, value_EBTY).flatten(2))


class DecisionNet(nn.Module):
    """E networks from an observation's readout and a decision to hidden states.

    The first layer is a sum of a state's part and an action's part, so that N decisions of one state share the
    former. Slots of kind `bin` and `place` also tell their position, so that neighbours start alike. Those of kind
    `word` tell what the frozen backbone makes of the word, so that words in the same role do; and those of kind
    `place` what it shows there, and how near it is to what each pointer points at, so that clicks on the same thing do.
    Where the policy's head reads the whole token sequence, so do they. Where the policy remembers turns, they read word
    by word what it does, with a reader of their own, which all share: they are told of the chosen word, and of what
    words name at the chosen place. Of tokens that are compressed, they read the chunk that these mean.

    Args:
        state_size: R, the length of the readout of the frozen features.
        slots: the K slots of a decision.
        views: for each slot of kind `place`, in order, the view that it points into.
        hidden_size: D. grid: of the visual tokens. reads_tokens: whether the frozen features hold the token sequence.
        clause_size: X, of what a clause says, which is read too; 0 where it is not.
        told: of how many cameras features tell what was done in turns; 0 where they do not.
        meaning: tells what decisions int64 [N, K] mean, float32 [N, M], where tokens are compressed; else None.
        waves: W, how many octaves of waves of each number of the readout are read beside it, see `waved`.
    """

    def __init__(
        self,
        state_size: int,
        slots: Sequence[Slot],
        views: Sequence[int] = (),
        hidden_size: int = 0,
        grid: tuple[int, int] = (1, 1),
        members: int = 2,
        width: int = 256,
        reads_tokens: bool = False,
        clause_size: int = 0,
        told: int = 0,
        meaning: Callable[[np.ndarray], np.ndarray] | None = None,
        waves: int = 0,
    ) -> None:
        super().__init__()
        self.members, self.width, self.waves, self._meaning = members, width, waves, meaning
        codes = [] if meaning else [slot_codes(slot) for slot in slots]
        for k, code in enumerate(codes):
            self.register_buffer(f"codes_{k}", code, persistent=False)
        self.slot_count = len(slots)
        self.reader = ClauseReader(clause_size) if clause_size else None
        read = state_size * (1 + 2 * waves)
        self.state = Ensemble(members, read + (self.reader.size if self.reader else 0), width)
        self.action = nn.ModuleList(Ensemble(members, code.shape[1], width) for code in codes)
        idle = np.zeros((1, len(slots)), np.int64)
        self.chunk = Ensemble(members, meaning(idle).shape[1], width) if meaning else None
        self.words = WordReader(hidden_size, told) if told else None
        self.pooled = Ensemble(members, 2 * WORD_WIDTH, width) if told else None
        self._cameras, read = told, WORD_WIDTH if told else 0
        self.told = nn.ModuleDict()
        self._views: dict[str, int] = {}
        for k, slot in enumerate(slots):
            if slot.kind == "word":
                self.told[str(k)] = Ensemble(members, 2 * hidden_size + clause_size + read, width)
            elif slot.kind == "place":
                assert slot.grid is not None, slot
                self.told[str(k)] = Ensemble(members, SLOTS + hidden_size + read, width)
                self._views[str(k)] = views[len(self._views)]
                centres_C2 = cell_centres(slot.grid)
                self.register_buffer(f"centres_{k}", centres_C2, persistent=False)
                self.register_buffer(f"tokens_{k}", cells_at(centres_C2, grid), persistent=False)
        self.norm_in, self.norm = EnsembleNorm(members, width), EnsembleNorm(members, width)
        self.hidden = Ensemble(members, width, width)
        self.pool = TokenPool(members, hidden_size, width) if reads_tokens else None

    def sums(self, readout_BR: Tensor, tokens_BNK: Tensor, seen: Features | None = None) -> Tensor:
        """The first layer, before anything bends it, [E, B * N, H]; the frozen features serve words and places."""
        B, N, K = tokens_BNK.shape
        assert self.slot_count == K, f"the critic knows {self.slot_count} slots, got {K}"
        readout_BR = waved(readout_BR, self.waves)
        if self.reader is not None:
            assert seen is not None, "clauses are read, but there are no features"
            assert seen.clauses is not None, "features without clauses"
            readout_BR = torch.cat([readout_BR, self.reader(seen.clauses)], 1)
        state_EBH = self.state(readout_BR.expand(self.members, -1, -1))
        if self.pool is not None:
            assert seen is not None, "the token sequence is read, but there are no features"
            assert seen.tokens is not None, "features without tokens"
            assert seen.mask is not None, "features without a mask"
            state_EBH = state_EBH + self.pool(seen.tokens, seen.mask)
        read_BWH: Tensor | None = None
        if self.words is not None:
            assert self.pooled is not None
            assert seen is not None, "turns are read, but there are no features"
            read_BWH, pooled_BX = self.words(seen)
            state_EBH = state_EBH + self.pooled(pooled_BX.expand(self.members, -1, -1))
        x = state_EBH.unsqueeze(2).expand(-1, -1, N, -1)
        for k, layer in enumerate(self.action):
            codes = getattr(self, f"codes_{k}")
            table_ECH = layer(codes.expand(self.members, -1, -1))
            x = x + table_ECH[:, tokens_BNK[..., k]]
        if self.chunk is not None:
            x = x + self.chunk(self._meant(tokens_BNK).expand(self.members, -1, -1)).unflatten(1, (B, N))
        for name, layer in self.told.items():
            assert seen is not None, "slots of words or places, but no features"
            told_BNX = self._told(name, seen, tokens_BNK[..., int(name)], read_BWH)
            x = x + layer(told_BNX.flatten(0, 1).expand(self.members, -1, -1)).unflatten(1, (B, N))
        return x.reshape(self.members, B * N, self.width)

    def bent(self, sums: Tensor) -> Tensor:
        """The last hidden states, [E, B * N, H], of those sums."""
        x = F.silu(self.norm_in(sums))
        return F.silu(self.norm(self.hidden(x)))

    def _meant(self, tokens_BNK: Tensor) -> Tensor:
        """What decisions mean, [B * N, M]."""
        assert self._meaning is not None, "tokens that mean themselves"
        return torch.from_numpy(self._meaning(tokens_BNK.flatten(0, 1).cpu().numpy())).to(tokens_BNK.device)

    def _told(self, name: str, seen: Features, tokens_BN: Tensor, read_BWH: Tensor | None) -> Tensor:
        """What the frozen features tell of the chosen words, [B, N, 2 * D (+ X)], or places, [B, N, S + D]; and, where
        there is anything, what is read of words there, H numbers more."""
        if name not in self._views:
            told_BNX = _chosen(seen.worded, tokens_BN)
            return told_BNX if read_BWH is None else torch.cat([told_BNX, _picked(read_BWH, tokens_BN)], -1)
        assert seen.visual is not None, "a slot of places, but no visual tokens"
        view = self._views[name]
        rows_S = slice(view * SLOTS, (view + 1) * SLOTS)
        centres_C2: Tensor = getattr(self, f"centres_{name}")
        near_BNS = seen.near(centres_C2[tokens_BN], rows_S, margin=2 / math.sqrt(len(centres_C2)))
        shown_BND = _chosen(seen.visual[:, view], getattr(self, f"tokens_{name}")[tokens_BN])
        if read_BWH is None:
            return torch.cat([near_BNS, shown_BND], -1)
        camera = view * self._cameras * SLOTS // seen.places.shape[1]
        return torch.cat([near_BNS, shown_BND, at_points(seen, read_BWH, camera, centres_C2[tokens_BN])], -1)


class Critic(DecisionNet):
    """Q_e(z, a) as a histogram over `bins` values, e = 1..E; see `DecisionNet` for what it reads."""

    edges: Tensor
    centres: Tensor

    def __init__(
        self, *given: Any, bins: int = 51, value_range: tuple[float, float] = (-0.1, 1.1), **named: Any
    ) -> None:
        super().__init__(*given, **named)
        edges = torch.linspace(*value_range, bins + 1)
        self.register_buffer("edges", edges, persistent=False)
        self.register_buffer("centres", (edges[1:] + edges[:-1]) / 2, persistent=False)
        self.out = Ensemble(self.members, self.width, bins)

    def forward(self, readout_BR: Tensor, tokens_BNK: Tensor, seen: Features | None = None) -> Tensor:
        """Logits over the value bins, [E, B, N, Z]; the frozen features serve slots of words and places."""
        logits = self.out(self.bent(self.sums(readout_BR, tokens_BNK, seen)))
        return logits.unflatten(1, tokens_BNK.shape[:2])

    def value(self, logits: Tensor) -> Tensor:
        """The expected value of each histogram."""
        return (torch.softmax(logits.float(), dim=-1) * self.centres).sum(-1)


class QScorer:
    """What decisions are worth, by the most pessimistic of a critic's members: what the best of N is chosen by.

    policy: whose features the critic reads, in the policy's own precision.
    """

    def __init__(self, critic: Critic, policy: Policy) -> None:
        self.critic, self._policy = critic, policy

    @torch.no_grad()
    def __call__(self, grounded: Features, tokens_BNK: Tensor) -> Tensor:
        """Q float32 [B, N] of decisions int64 [B, N, K], from the frozen features of B observations."""
        return self.critic.value(told_by(self.critic, self._policy, grounded, tokens_BNK)).amin(0)


def told_by(net: DecisionNet, policy: Policy, grounded: Features, tokens_BNK: Tensor) -> Tensor:
    """What a network says of decisions int64 [B, N, K], from frozen features, in the policy's own precision."""
    dtype = policy.mixed_precision
    with nullcontext() if dtype is None else torch.autocast(tokens_BNK.device.type, dtype):
        return net(policy.readout(grounded), tokens_BNK, grounded)


def make_critic(settings: ActorCriticConfig, policy: Policy, slots: Sequence[Slot] | None = None) -> Critic:
    """A fresh critic of a policy's decisions; with no `slots`, of its observations alone."""
    return Critic(
        **sizes_of(policy, slots),
        members=settings.critics,
        width=settings.critic_width,
        waves=settings.critic_waves,
        bins=settings.bins,
        value_range=settings.value_range,
    )


def sizes_of(policy: Policy, slots: Sequence[Slot] | None = None) -> dict[str, Any]:
    """What a `DecisionNet` has to know of a policy; with no `slots`, to read its observations alone."""
    space: Any = policy.action_space
    return {
        "meaning": space.vectors if slots is None and compressed(space) else None,
        "state_size": policy.readout.size,
        "slots": policy.slots if slots is None else slots,
        "views": policy.place_views,
        "hidden_size": policy.trunk.backbone.hidden_size,
        "grid": policy.trunk.backbone.grid,
        "reads_tokens": "tokens" in policy.settings.head.reads,
        "clause_size": policy.trunk.backbone.hidden_size + EXTRA if policy.head.reader else 0,
        "told": len(policy.cameras) if policy.kept.named is not None else 0,
    }


def waved(readout_BR: Tensor, octaves: int) -> Tensor:
    """The readout [B, R] and, of each number z in it, sin and cos of z pi / 2, z pi, ..., [B, R + 2 * octaves * R].

    z is in units of its spread. A network learns what changes slowly with its input first, and values change fast near
    contacts (Fourier features: arXiv 2006.10739, and of values 2206.04672).
    """
    if not octaves:
        return readout_BR
    angles = [readout_BR * (math.pi / 2 * 2**octave) for octave in range(octaves)]
    return torch.cat([readout_BR, *(wave(angle) for angle in angles for wave in (torch.sin, torch.cos))], 1)


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, share: float) -> None:
    """Have a network follow another by an exponential average, in float32."""
    weights: list[Tensor] = list(online.parameters())
    followers: list[Tensor] = list(target.parameters())
    torch._foreach_lerp_(followers, weights, share)


def state_value(critic: Critic, readout_BR: Tensor, seen: Features | None = None) -> Tensor:
    """V float32 [B], the mean of the members of a critic of observations alone."""
    none = torch.zeros(len(readout_BR), 1, 0, dtype=torch.int64, device=readout_BR.device)
    return critic.value(critic(readout_BR, none, seen)).mean(0).squeeze(1)


def load_scorer(settings: ActorCriticConfig, policy: Policy, state: dict[str, Any]) -> QScorer:
    """The scorer of a saved actor-critic's `state_dict`, on the policy's device."""
    critic = bounds.filled(lambda: make_critic(settings, policy), state.get("critic"), "the checkpoint's critic")
    return QScorer(critic.to(policy.device).requires_grad_(False), policy)


def _picked(read_BWH: Tensor, index_BN: Tensor) -> Tensor:
    """What was read of the chosen words, [B, N, H]; 0 of those beyond the ones that are read."""
    there_BN1 = (index_BN < read_BWH.shape[1]).unsqueeze(-1)
    index_BN1 = index_BN.clamp(max=read_BWH.shape[1] - 1).unsqueeze(-1)
    return read_BWH.gather(1, index_BN1.expand(-1, -1, read_BWH.shape[-1])) * there_BN1


def _chosen(states_BXD: Tensor, index_BN: Tensor) -> Tensor:
    """The chosen states of each row, normalised, [B, N, D]."""
    chosen_BND = states_BXD.gather(1, index_BN.unsqueeze(-1).expand(-1, -1, states_BXD.shape[-1]))
    return F.layer_norm(chosen_BND, chosen_BND.shape[-1:])


def slot_codes(slot: Slot) -> Tensor:
    """A fixed code for each token of a slot, float32 [choices, code length]."""
    one_hot = torch.eye(slot.choices)
    if slot.kind == "bin":
        return torch.cat([one_hot, torch.linspace(-1, 1, slot.choices).unsqueeze(1)], dim=1)
    if slot.kind == "place":
        assert slot.grid is not None
        rows, columns = slot.grid
        y, x = torch.meshgrid(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij")
        place = torch.stack([x.reshape(-1), y.reshape(-1)], dim=1)
        waves = [wave(place * math.pi * 2.0**octave) for octave in range(4) for wave in (torch.sin, torch.cos)]
        return torch.cat([place, *waves], dim=1)
    return one_hot
