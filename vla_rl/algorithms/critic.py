"""The critic: several categorical value heads on frozen features and a decision's tokens.

Shapes: B rows, N decisions a row, K slots, E critics, R readout, H width, Z value bins,
W words, D their width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_rl.specs import Slot


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


class Critic(nn.Module):
    """Q_e(z, a) as a histogram over `bins` values, e = 1..E.

    The first layer is a sum of a state's part and an action's part, so that N decisions of one state share the
    former. Slots of kind `bin` and `place` also tell their position, so that neighbours start alike; those of kind
    `word` tell what the frozen backbone makes of the word, so that words in the same role do.

    Args:
        state_size: R, the length of the readout of the frozen features.
        slots: the K slots of a decision.
        word_size: D, of the words' hidden states.
    """

    edges: Tensor
    centres: Tensor

    def __init__(
        self,
        state_size: int,
        slots: Sequence[Slot],
        word_size: int = 0,
        members: int = 2,
        width: int = 256,
        bins: int = 51,
        value_range: tuple[float, float] = (-0.1, 1.1),
    ) -> None:
        super().__init__()
        self.members, self.width = members, width
        edges = torch.linspace(*value_range, bins + 1)
        self.register_buffer("edges", edges, persistent=False)
        self.register_buffer("centres", (edges[1:] + edges[:-1]) / 2, persistent=False)
        codes = [slot_codes(slot) for slot in slots]
        for k, code in enumerate(codes):
            self.register_buffer(f"codes_{k}", code, persistent=False)
        self.slot_count = len(codes)
        self.state = Ensemble(members, state_size, width)
        self.action = nn.ModuleList(Ensemble(members, code.shape[1], width) for code in codes)
        self._word = [k for k, slot in enumerate(slots) if slot.kind == "word"]
        self.words = nn.ModuleList(Ensemble(members, word_size, width) for _ in self._word)
        self.norm_in, self.norm = EnsembleNorm(members, width), EnsembleNorm(members, width)
        self.hidden = Ensemble(members, width, width)
        self.out = Ensemble(members, width, bins)

    def forward(self, readout_BR: Tensor, tokens_BNK: Tensor, words_BWD: Tensor | None = None) -> Tensor:
        """Logits over the value bins, [E, B, N, Z]; the words' hidden states serve slots of words."""
        B, N, K = tokens_BNK.shape
        assert self.slot_count == K, f"the critic knows {self.slot_count} slots, got {K}"
        state_EB1H = self.state(readout_BR.expand(self.members, -1, -1)).unsqueeze(2)
        x = state_EB1H
        for k, layer in enumerate(self.action):
            codes = getattr(self, f"codes_{k}")
            table_ECH = layer(codes.expand(self.members, -1, -1))
            x = x + table_ECH[:, tokens_BNK[..., k]]
        for k, layer in zip(self._word, self.words, strict=True):
            assert words_BWD is not None, "a slot of words, but no words"
            x = x + layer(self._chosen(words_BWD, tokens_BNK[..., k])).unflatten(1, (B, N))
        x = x.reshape(self.members, B * N, self.width)
        x = F.silu(self.norm_in(x))
        x = F.silu(self.norm(self.hidden(x)))
        return self.out(x).view(self.members, B, N, -1)

    def _chosen(self, words_BWD: Tensor, tokens_BN: Tensor) -> Tensor:
        """The chosen words' hidden states, normalised, [E, B * N, D]."""
        chosen_BND = words_BWD.gather(1, tokens_BN.unsqueeze(-1).expand(-1, -1, words_BWD.shape[-1]))
        return F.layer_norm(chosen_BND, chosen_BND.shape[-1:]).flatten(0, 1).expand(self.members, -1, -1)

    def value(self, logits: Tensor) -> Tensor:
        """The expected value of each histogram."""
        return (torch.softmax(logits.float(), dim=-1) * self.centres).sum(-1)


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
