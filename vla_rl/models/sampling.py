"""Decisions from logits: sampling, probabilities and entropies under an action space's grammar.

Mostly the logits of all K slots come from one pass; masks are applied slot by slot, since they depend on the
tokens before. Most action spaces have none, and then everything is one vectorised step.

Shapes: B rows, n decisions a row, K slots, C choices of a slot (Cmax of the largest), U masks of a slot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch

from vla_rl.models.transfer import fetched, sent
from vla_rl.specs import ActionSpace, Slot

FORBIDDEN = -1e9
"""The logit of a token that the grammar does not allow: finite, so that 0 times it is 0."""


class Choices(Protocol):
    """What a head says of B decisions that are to be taken."""

    def __len__(self) -> int:
        """B."""

    def rows(self, index: Any) -> Self:
        """Of the rows that an index tensor, a bool mask or a slice selects."""

    def sample(self, noise_BnK: torch.Tensor) -> torch.Tensor:
        """n decisions a row, int64 [B, n, K]; the same for the same noise, uniform in (0, 1)."""

    def greedy(self) -> torch.Tensor:
        """The most likely token of each slot given those before, int64 [B, K]."""

    def log_prob(self, tokens_BnK: torch.Tensor) -> torch.Tensor:
        """The log-probability [B, n] of decisions; about FORBIDDEN where the grammar does not allow one."""

    def cross_entropy(self, labels_BK: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
        """[B]: see `cross_entropy`."""

    def entropy(self, tokens_BnK: torch.Tensor | None) -> torch.Tensor:
        """[B] in nats: see `entropy`."""

    def divergence(self, other: Self, tokens_BnK: torch.Tensor | None) -> torch.Tensor:
        """KL(these || other) [B]: see `divergence`."""


@dataclass(frozen=True)
class AtOnce:
    """Choices that are all known from one pass: K tensors of logits [B, C_k], before any mask."""

    action_space: ActionSpace
    logits: list[torch.Tensor]

    def __len__(self) -> int:
        return len(self.logits[0])

    def rows(self, index: Any) -> AtOnce:
        return AtOnce(self.action_space, [each[index] for each in self.logits])

    def sample(self, noise_BnK: torch.Tensor) -> torch.Tensor:
        return sample(self.action_space, self.logits, noise_BnK)

    def greedy(self) -> torch.Tensor:
        return greedy(self.action_space, self.logits)

    def log_prob(self, tokens_BnK: torch.Tensor) -> torch.Tensor:
        return log_prob(self.action_space, self.logits, tokens_BnK)

    def cross_entropy(self, labels_BK: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
        return cross_entropy(self.action_space, self.logits, labels_BK, smoothing)

    def entropy(self, tokens_BnK: torch.Tensor | None) -> torch.Tensor:
        return entropy(self.action_space, self.logits, tokens_BnK)

    def divergence(self, other: AtOnce, tokens_BnK: torch.Tensor | None) -> torch.Tensor:
        return divergence(self.action_space, self.logits, other.logits, tokens_BnK)


Logits = list[torch.Tensor] | Choices
"""What a head says: of each slot k, [B, C_k], before any mask; or choices, where a token depends on those before it."""


def choices_of(action_space: ActionSpace, logits: Logits) -> Choices:
    """What a head says, as choices."""
    return AtOnce(action_space, logits) if isinstance(logits, list) else logits


def rows_of(logits: Logits, index: Any) -> Logits:
    """What a head says of some rows."""
    return [each[index] for each in logits] if isinstance(logits, list) else logits.rows(index)


def sample(action_space: ActionSpace, logits: Sequence[torch.Tensor], noise_BnK: torch.Tensor) -> torch.Tensor:
    """Tokens int64 [B, n, K], each by inverting its distribution function.

    Args:
        logits: K tensors [B, C_k].
        noise_BnK: uniform in (0, 1), [B, n, K]; the same noise gives the same decisions.
    """
    if len({each.shape for each in logits}) == 1:  # all at once: on a GPU each step costs a launch
        tokens_BnK = draw(torch.stack(list(logits), 1), noise_BnK.transpose(1, 2)).transpose(1, 2).contiguous()
    else:
        tokens_BnK = torch.stack([draw(each, noise_BnK[..., k]) for k, each in enumerate(logits)], -1)
    for k, allowed in _allowed(action_space, tokens_BnK):
        masked_BUC = allowed.masked(logits[k])
        drawn_BUn = draw(masked_BUC, noise_BnK[..., k].unsqueeze(1).expand(-1, masked_BUC.shape[1], -1))
        tokens_BnK[:, :, k] = drawn_BUn.gather(1, allowed.which_Bn.unsqueeze(1)).squeeze(1)
    return tokens_BnK


def draw(logits: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Logits [..., C] and noise [..., n] in (0, 1) -> n tokens of each row, int64 [..., n]."""
    reached = torch.softmax(logits.float(), -1).cumsum(-1)
    # The sum of all may miss 1 by a rounding; a token of probability 0 is never the first to be above.
    return torch.searchsorted(reached, noise.contiguous() * reached[..., -1:], right=True)


def greedy(action_space: ActionSpace, logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """The most likely token of each slot given those before, int64 [B, K]."""
    tokens_B1K = pad(logits).argmax(-1).unsqueeze(1)
    for k, allowed in _allowed(action_space, tokens_B1K):
        tokens_B1K[:, :, k] = allowed.masked(logits[k]).argmax(-1).gather(1, allowed.which_Bn)
    return tokens_B1K.squeeze(1)


def log_prob(action_space: ActionSpace, logits: Sequence[torch.Tensor], tokens_BnK: torch.Tensor) -> torch.Tensor:
    """The log-probability [B, n] of decisions; about FORBIDDEN where the grammar does not allow one."""
    masks = dict(_allowed(action_space, tokens_BnK))
    free = [k for k in range(len(logits)) if k not in masks]
    total_Bn = logits[0].new_zeros(tokens_BnK.shape[:2])
    if free:
        log_BFC = torch.log_softmax(pad([logits[k] for k in free]), -1)
        chosen_BnF = tokens_BnK if len(free) == len(logits) else tokens_BnK[..., free]
        total_Bn = total_Bn + log_BFC.gather(-1, chosen_BnF.transpose(1, 2)).sum(1)
    for k, allowed in masks.items():
        total_Bn = total_Bn + allowed.chosen(torch.log_softmax(allowed.masked(logits[k]), -1), tokens_BnK[:, :, k])
    return total_Bn


def cross_entropy(
    action_space: ActionSpace, logits: Sequence[torch.Tensor], labels_BK: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """[B]: -log of the labels' probability, or the cross-entropy to labels spread over their neighbours.

    smoothing: standard deviation of the spread in bins, or in cells; slots of kind `choice` stay sharp. For
    demonstrations only: on a policy's own samples it would blur the policy again and again.
    """
    if smoothing <= 0:
        return -log_prob(action_space, logits, labels_BK.unsqueeze(1)).squeeze(1)
    masks = dict(_allowed(action_space, labels_BK.unsqueeze(1)))
    total_B = torch.zeros_like(logits[0][:, 0])
    for k, slot in enumerate(action_space.slots):
        log_BC, mask_BC = logits[k], None
        if k in masks:
            mask_BC = masks[k].mask_BUC[:, 0]
            log_BC = log_BC.masked_fill(~mask_BC, FORBIDDEN)
        target_BC = spread(slot, labels_BK[:, k], smoothing, mask_BC)
        total_B = total_B - (target_BC * torch.log_softmax(log_BC, -1)).sum(-1)
    return total_B


def spread(slot: Slot, label_B: torch.Tensor, width: float, mask_BC: torch.Tensor | None = None) -> torch.Tensor:
    """A label as a distribution [B, C] over what the mask allows, see `cross_entropy`."""
    target_BC = _spread(slot, label_B, width)
    if mask_BC is None:
        return target_BC
    target_BC = target_BC * mask_BC
    return target_BC / target_BC.sum(-1, keepdim=True)


def _spread(slot: Slot, label_B: torch.Tensor, width: float) -> torch.Tensor:
    """A label as a distribution [B, C]: a Gaussian over neighbouring bins or cells, or the label alone."""
    token_C = torch.arange(slot.choices, device=label_B.device)
    if slot.kind == "bin":
        distance_BC = (token_C - label_B[:, None]).square()
    elif slot.kind == "place":
        assert slot.grid is not None
        columns = slot.grid[1]
        down_BC = token_C // columns - (label_B // columns)[:, None]
        across_BC = token_C % columns - (label_B % columns)[:, None]
        distance_BC = down_BC.square() + across_BC.square()
    else:
        return torch.nn.functional.one_hot(label_B, slot.choices).float()
    return torch.softmax(-distance_BC / (2 * width**2), -1)


def has_grammar(action_space: ActionSpace) -> bool:
    """Whether any slot's tokens are ever masked."""
    return any(masked(action_space, k) for k in range(len(action_space.slots)))


def masked(action_space: ActionSpace, k: int) -> bool:
    """Whether the tokens of slot k are ever masked."""
    return action_space.mask(np.zeros((1, k), np.int64)) is not None


def entropy(action_space: ActionSpace, logits: Sequence[torch.Tensor], tokens_BnK: torch.Tensor | None) -> torch.Tensor:
    """[B] in nats: exact without a grammar (tokens None); with one, the mean over the sampled prefixes `tokens_BnK`."""
    return -divergence(action_space, logits, None, tokens_BnK)


def divergence(
    action_space: ActionSpace,
    logits: Sequence[torch.Tensor],
    others: Sequence[torch.Tensor] | None,
    tokens_BnK: torch.Tensor | None,
) -> torch.Tensor:
    """KL(logits || others) [B]; without `others`, the negative entropy of `logits`.

    tokens_BnK: samples of `logits`, over whose prefixes a grammar's conditionals are averaged. The gradient counts that
    other logits would have brought other prefixes.
    """
    if tokens_BnK is None:
        log_BKC = torch.log_softmax(pad(logits), -1)
        return _apart(log_BKC, None if others is None else torch.log_softmax(pad(others), -1)).sum(-1)
    masks = dict(_allowed(action_space, tokens_BnK))
    total_B, said_Bn = torch.zeros_like(logits[0][:, 0]), logits[0].new_zeros(tokens_BnK.shape[:2])
    for k in range(len(logits)):
        if k not in masks:
            log_BC = torch.log_softmax(logits[k], -1)
            total_B = total_B + _apart(log_BC, None if others is None else torch.log_softmax(others[k], -1))
            said_Bn = said_Bn + log_BC.gather(-1, tokens_BnK[:, :, k])
            continue
        log_BUC = torch.log_softmax(masks[k].masked(logits[k]), -1)
        theirs_BUC = None if others is None else torch.log_softmax(masks[k].masked(others[k]), -1)
        each_Bn = _apart(log_BUC, theirs_BUC).gather(1, masks[k].which_Bn)
        if k and each_Bn.requires_grad:
            each_Bn = each_Bn + of_the_prefixes(each_Bn.detach(), said_Bn)
        said_Bn = said_Bn + masks[k].chosen(log_BUC, tokens_BnK[:, :, k])
        total_B = total_B + each_Bn.mean(1)
    return total_B


def _apart(log: torch.Tensor, others: torch.Tensor | None) -> torch.Tensor:
    """KL [...] of log-probabilities [..., C] from others; without those, the negative entropy."""
    return (log.exp() * (log if others is None else log - others)).sum(-1)


def of_the_prefixes(value_Bn: torch.Tensor, log_prob_Bn: torch.Tensor) -> torch.Tensor:
    """0 [B, n], whose gradient is that of the samples' probabilities on the mean of `value_Bn` (REINFORCE); the other
    samples' mean is the baseline."""
    n = value_Bn.shape[1]
    centred_Bn = (value_Bn - value_Bn.mean(1, keepdim=True)) * (n / (n - 1)) if n > 1 else value_Bn
    return centred_Bn * (log_prob_Bn - log_prob_Bn.detach())


def pad(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """K tensors [B, C_k] as one [B, K, Cmax], FORBIDDEN where a slot has no such choice."""
    most = max(each.shape[-1] for each in logits)
    if all(each.shape[-1] == most for each in logits):
        return torch.stack(list(logits), 1)
    pads = [torch.nn.functional.pad(each, (0, most - each.shape[-1]), value=FORBIDDEN) for each in logits]
    return torch.stack(pads, 1)


@dataclass(frozen=True)
class Allowed:
    """What a slot's tokens may be after n prefixes of each of B rows.

    Mostly few masks are unlike, whatever the prefixes are: a place is pointed at, or it is not. So probabilities are
    worked out for each of these U masks, instead of for each prefix.

    Attributes:
        mask_BUC: bool, which tokens are allowed; the same for all rows where all masks are.
        which_Bn: int64, which of the masks each prefix has.
    """

    mask_BUC: torch.Tensor
    which_Bn: torch.Tensor

    def masked(self, logits_BC: torch.Tensor) -> torch.Tensor:
        """[B, U, C], FORBIDDEN where a mask does not allow a token."""
        return logits_BC.unsqueeze(1).masked_fill(~self.mask_BUC, FORBIDDEN)

    def chosen(self, values_BUC: torch.Tensor, tokens_Bn: torch.Tensor) -> torch.Tensor:
        """The values [B, n] of the tokens that were chosen after each prefix."""
        return values_BUC.flatten(1).gather(1, self.which_Bn * values_BUC.shape[-1] + tokens_Bn)


def _allowed(action_space: ActionSpace, tokens_BnK: torch.Tensor) -> Iterator[tuple[int, Allowed]]:
    """Every slot with a mask, and what it allows; the caller may change slot k of the tokens while it waits."""
    for k in range(tokens_BnK.shape[-1]):
        if not masked(action_space, k):
            continue  # without a look at the tokens, for which an accelerator would have to be waited for
        mask = _mask_of(action_space, tokens_BnK[:, :, :k])
        if mask is not None:
            yield k, _unlike(mask, tokens_BnK)


def _unlike(mask: np.ndarray, tokens_BnK: torch.Tensor) -> Allowed:
    """By the masks bool [B * n, C] of all prefixes, which of them are unlike; all, where that are more than n, or
    none."""
    (B, n), device = tokens_BnK.shape[:2], tokens_BnK.device
    packed = np.packbits(mask, axis=1)
    which, first, rest = np.zeros(len(mask), np.int64), list[int](), np.arange(len(mask))
    while len(rest) and len(first) <= n:
        same = (packed[rest] == packed[rest[0]]).all(1)
        which[rest[same]] = len(first)
        first.append(int(rest[0]))
        rest = rest[~same]
    if not 0 < len(first) <= n:
        return Allowed(sent(mask, device).view(B, n, mask.shape[1]), torch.arange(n, device=device).expand(B, n))
    return Allowed(sent(mask[first], device).unsqueeze(0), sent(which, device).view(B, n))


def mask_after(action_space: ActionSpace, prefix_Bnk: torch.Tensor) -> torch.Tensor | None:
    """Which tokens may follow, bool [B, n, C_k]; None where all may."""
    mask = _mask_of(action_space, prefix_Bnk)
    return None if mask is None else sent(mask, prefix_Bnk.device).view(*prefix_Bnk.shape[:2], mask.shape[1])


def _mask_of(action_space: ActionSpace, prefix_Bnk: torch.Tensor) -> np.ndarray | None:
    """Which tokens may follow, bool [B * n, C_k]; None where all may."""
    return action_space.mask(fetched({"tokens": prefix_Bnk.flatten(0, 1)})["tokens"])
