"""The policy: a trunk that turns observations into features, and a head that turns features into decisions.

One class for arms and screens, for 0.2M and for billions of parameters. Its folder holds everything that it
needs, as JSON and safetensors.

Shapes: B rows, n decisions a row, K slots, Cmax choices of the largest slot, V views, S slots of the pointers.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vla_rl.config.policy import LoraSettings, PolicySettings, Trainable
from vla_rl.models import sampling, storage
from vla_rl.models.adapters import adapters_off, frozen_beside, merge_lora
from vla_rl.models.autoregressive import SpokenHead, copied, make_head
from vla_rl.models.backbone import Backbone
from vla_rl.models.features import Features
from vla_rl.models.inputs import inputs_of
from vla_rl.models.kept import Columns, Kept
from vla_rl.models.pointers import Pointers
from vla_rl.models.readout import Readout
from vla_rl.models.recompute import recompute_layers
from vla_rl.models.sampling import Choices, Logits
from vla_rl.models.transfer import sent
from vla_rl.models.trunk import Trunk
from vla_rl.specs import IMAGES, REMEMBERED, ActionSpace, Mark, Slot

_ENTROPY_SAMPLES = 16


class Policy(nn.Module):
    """Decides from observations; see `build` and `from_pretrained`.

    Attributes:
        settings: what it was built from.
        action_space: bound to the environment's space.
        cameras: their names, in the order of the views.
        state_dim: P.
        marks: the places that the state tells of.
        readout: the parameter-free reading of features; the critic shares it.
        kept: what features hold beside what the pointers say.
        mixed_precision: what the trunk computes in, whoever asks, so that acting and learning see the same; None
            where its weights are computed in as they are. Pointers and head always compute in float32.
    """

    def __init__(
        self,
        settings: PolicySettings,
        action_space: ActionSpace,
        cameras: Iterable[str],
        state_dim: int,
        backbone: Backbone,
        pointers: Pointers,
        marks: Iterable[Mark] = (),
    ) -> None:
        super().__init__()
        self.settings, self.action_space, self.state_dim = settings, action_space, state_dim
        self.marks = tuple(marks)
        self.cameras = tuple(name.removeprefix(IMAGES) for name in cameras)
        if not self.cameras:
            raise ValueError("a policy needs at least one camera among env.sensors")
        if any(slot.kind == "word" for slot in action_space.slots) and not backbone.tokenizer.is_fast:
            raise ValueError("action_space copies words, which needs a backbone with a fast tokenizer")
        self.mixed_precision: torch.dtype | None = None
        self.kept = Kept.of(settings, action_space.slots)
        self._conditional = settings.head.type == "autoregressive" or sampling.has_grammar(action_space)
        self.trunk = Trunk(backbone, pointers, settings.views == "together")
        decoder = copied(backbone) if settings.head.decoder == "copy" else None  # without adapters
        self.frozen = frozen_beside(self.trunk, settings)
        self.readout = Readout(self.cameras, settings.stack, state_dim, self.marks, self.kept.named is not None)
        told = len(self.cameras) if self.kept.named is not None else 0
        self.head = make_head(settings.head, action_space, self.readout.size, backbone, self.place_views, told, decoder)

    # --- making, saving, loading ----------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        settings: PolicySettings,
        action_space: ActionSpace,
        cameras: Iterable[str],
        state_dim: int,
        seed: int | None = None,
        marks: Iterable[Mark] = (),
    ) -> Policy:
        """A policy on the settings' backbone, its head untrained; in eval mode, as one that is loaded.

        Args:
            action_space: bound.
            cameras: their names, or keys of observations, in the order of the views.
            seed: of the fresh weights; torch's own generator is left as it was.
            marks: the places that the state tells of.

        Raises:
            ValueError: no camera; an action space that points into a camera that is not there.
        """
        with torch.random.fork_rng(devices=[]):
            if seed is not None:
                torch.manual_seed(seed)
            backbone = settings.backbone.load()
            pointers = Pointers.of(backbone.source, backbone.hidden_size)
            return cls(settings, action_space, cameras, state_dim, backbone, pointers, marks).eval()

    def save_pretrained(self, folder: str | Path, weights: Mapping[str, torch.Tensor] | None = None) -> None:
        """Write config.json, model.safetensors and the backbone's config and tokenizer.

        weights: of the policy, where this process has but a share of its own.
        """
        frame = storage.Frame(
            settings=self.settings,
            action_space=self.action_space,
            cameras=self.cameras,
            state_dim=self.state_dim,
            backbone=self.trunk.backbone,
            pointers=self.trunk.pointers,
            marks=self.marks,
        )
        storage.save(frame, self.state_dict() if weights is None else weights, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: str | Path, plugins: Sequence[str] = (), verify: bool = True) -> Policy:
        """The policy of a folder. Never asks the hub; imports only registered classes and `plugins`.

        verify: hold the files against their digests; policies of older versions have none.

        Raises ValueError where a file or a weight is missing, damaged or unexpected; see `storage.load`.
        """
        with torch.random.fork_rng(devices=[]):
            policy = storage.load(cls, Path(folder), plugins, verify)
        policy.load_pretrained(folder)
        return policy.eval()

    def load_pretrained(self, folder: str | Path) -> None:
        """Take the weights of a folder that a policy like this one wrote. Raises ValueError otherwise."""
        storage.load_weights(self.state_dict(), Path(folder))

    def check_fits(self, action_space: ActionSpace, cameras: Iterable[str], state_dim: int) -> None:
        """Raise ValueError unless decisions, cameras and state are those that this policy was made for."""
        names = tuple(name.removeprefix(IMAGES) for name in cameras)
        found = {"cameras": names, "state entries": state_dim, "action space": action_space}
        own = {"cameras": self.cameras, "state entries": self.state_dim, "action space": self.action_space}
        for what, value in own.items():
            if found[what] != value:
                raise ValueError(f"the policy was made for {what} {value}; the run has {found[what]}")

    # --- what it is -----------------------------------------------------------------------------------------

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The K slots of a decision."""
        return self.action_space.slots

    @property
    def place_views(self) -> list[int]:
        """For each slot of kind `place`, in order, the view that it points into."""
        return [self._view(slot) for slot in self.slots if slot.kind == "place"]

    @property
    def trainable(self) -> Trainable:
        """ "head", "lora" or "all"."""
        return self.settings.train

    @property
    def frozen_trunk(self) -> bool:
        """Whether `encode` equals `ground`, so that nothing but the cached features is read in learning."""
        return self.settings.train == "head"

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.head.queries.device

    @property
    def views(self) -> int:
        """V: cameras times stacked frames."""
        return len(self.cameras) * self.settings.stack

    @property
    def remembered_shape(self) -> tuple[int, ...] | None:
        """Of what is remembered for a row; None where nothing is."""
        return self.kept.remembered(len(self.cameras))

    def precision(self) -> AbstractContextManager[Any]:
        """The context in which the trunk computes."""
        return nullcontext() if self.mixed_precision is None else torch.autocast(self.device.type, self.mixed_precision)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What the actor's loss changes."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def cached_features(self) -> Columns:
        """The shape of a row and the dtype of each array of `Features.pack`."""
        return self.trunk.columns(self._grounded, len(self.cameras), self.settings.stack)

    def digest(self) -> str:
        """Names what `ground` computes and `cached_features` keeps: of one digest, one observation's are the same.

        Reads all weights: a second for a gigabyte.
        """
        trunk = self.trunk if self.frozen is None else self.frozen
        computed = [] if self.mixed_precision is None else [str(self.mixed_precision)]
        kept = hashlib.sha256(repr([trunk.digest(), sorted(self.cached_features().items()), *computed]).encode())
        return kept.hexdigest()[:16]

    def frozen_copy(self) -> Policy:
        """A policy that decides as this one does now, and never changes; both share what never does in this one."""
        shared = self.trunk if self.frozen_trunk else self.frozen
        return copy.deepcopy(self, {} if shared is None else {id(shared): shared}).requires_grad_(False)

    def set_trainable(self, train: Trainable, lora: LoraSettings | None = None) -> None:
        """Change what trains from now on, as `PolicySettings.train` and `lora` say it; it decides as before.

        Raises:
            ValueError: the policy has adapters, which cannot be told from what is beneath them any more.
        """
        if train == self.trainable:
            return
        if self.trainable == "lora":
            raise ValueError(f"policy.train: the policy was made with adapters, so it must be lora; got {train}")
        self.settings = dataclasses.replace(self.settings, train=train, lora=lora or self.settings.lora)
        self.requires_grad_(True)
        self.frozen = frozen_beside(self.trunk, self.settings)

    def renew(self) -> None:
        """Have `ground` see as `encode` does by now; nothing to do where the trunk never changes."""
        if self.frozen is not None:
            self.frozen.load_state_dict(self.trunk.state_dict())
        elif self.settings.train == "lora":
            merge_lora(self.trunk.backbone.model)

    def read_at_once(self, rows: int | None) -> None:
        """Have its trunks read so many rows at a time, at most: the same features and gradients, in less memory."""
        for trunk in (self.trunk, self.frozen):
            if trunk is not None:
                trunk.rows_at_once = rows

    def recompute_layers(self, recompute: bool) -> None:
        """Whether a trunk that trains computes its layers once more for the gradient: the same one, in less memory."""
        recompute_layers(self.trunk.backbone.model, recompute and not self.frozen_trunk)

    def condition(self) -> None:
        """Have the head be told whether a decision is to be a good one (an advantage token, arXiv 2511.14759).

        It decides as before until it is trained so, and is saved as such a policy.
        """
        if not self.settings.head.advantage:
            head = dataclasses.replace(self.settings.head, advantage=True)
            self.settings = dataclasses.replace(self.settings, head=head)
            self.head.condition()

    def set_normalization(self, features: Features) -> None:
        """Take the spread of everything that is read from features of demonstrations."""
        self.readout.set_normalization(features)

    # --- observations to features ---------------------------------------------------------------------------

    def encode(self, observation: Mapping[str, Any]) -> Features:
        """The features that the head reads, with a gradient where the trunk trains.

        Args:
            observation: batched; images uint8 [B, H, W, 3] or [B, k, H, W, 3], state [B, P], task B texts;
                arrays or tensors. Of a policy that remembers, `specs.REMEMBERED` too, `Features.remembered` of the
                observation before; without it nothing is remembered, as at an episode's beginning.

        Raises:
            ValueError: a camera or the state is missing, or of another shape or dtype.
        """
        if self.frozen_trunk:
            return self.ground(observation)
        return self._look(self.trunk, observation, self.kept)

    @torch.no_grad()
    def ground(self, observation: Mapping[str, Any]) -> Features:
        """The features of the frozen, grounded copy: what critics read, and replay may keep."""
        if self.frozen is not None:
            return self._look(self.frozen, observation, self._grounded)
        if self.settings.train == "lora":
            with adapters_off(self.trunk.backbone.model):
                return self._look(self.trunk, observation, self._grounded)
        return self._look(self.trunk, observation, self._grounded)

    def ground_episode(self, observation: Mapping[str, Any]) -> Features:
        """The same of observations that follow one another, so that each remembers those before it."""
        features = self.ground(observation)
        return features.through(self.before(observation, 1)) if features.remembering else features

    # --- features to decisions ------------------------------------------------------------------------------

    def logits(
        self, features: Features, good: torch.Tensor | None = None, readout: torch.Tensor | None = None
    ) -> Logits:
        """K tensors [B, C_k], before any mask; or choices that depend on one another, see `sampling.Logits`.

        good: int64 [B], of a policy that is told so: 1 for a good decision, 0 for a bad one, -1 for any; good ones,
            unless told. readout: what is read in place of what these features say.
        """
        readout = self.readout(features) if readout is None else readout
        if isinstance(self.head, SpokenHead):
            return self.head(readout, features, good, self.trunk.backbone, self.action_space)
        return self.head(readout, features, good)

    # What follows takes features, or the logits that they gave, so that one pass of the head serves many questions.

    def sample(self, seen: Features | Logits, n: int = 1, noise: torch.Tensor | None = None) -> torch.Tensor:
        """n decisions a row, int64 [B, n, K].

        noise: uniform in (0, 1), [B, n, K]; the same noise gives the same decisions.
        """
        choices = self._choices(seen)
        return choices.sample(self._noise(len(choices), n) if noise is None else noise)

    def uniform(self, rows: int, n: int = 1, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Decisions int64 [rows, n, K], each token uniform among those that the grammar allows."""
        noise = self._noise(rows, n) if noise is None else noise
        zeros = [torch.zeros(rows, slot.choices, device=noise.device) for slot in self.slots]
        return sampling.sample(self.action_space, zeros, noise)

    def log_prob(self, seen: Features | Logits, tokens: torch.Tensor) -> torch.Tensor:
        """The log-probability [B, n] of decisions int64 [B, n, K]."""
        return self._choices(seen).log_prob(tokens)

    def imitation_loss(self, seen: Features | Logits, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
        """[B]: cross-entropy to demonstrated tokens int64 [B, K], spread by `smoothing` bins or cells."""
        return self._choices(seen).cross_entropy(labels, smoothing)

    @torch.no_grad()
    def greedy(self, seen: Features | Logits) -> torch.Tensor:
        """The most likely token of each slot given those before, int64 [B, K]."""
        return self._choices(seen).greedy()

    def entropy(self, seen: Features | Logits) -> torch.Tensor:
        """[B] in nats; estimated on a few samples where a token depends on those before it."""
        choices = self._choices(seen)
        return choices.entropy(self._prefixes(choices))

    def kl(self, seen: Features | Logits, reference_logits: Logits, noise: torch.Tensor | None = None) -> torch.Tensor:
        """KL(policy || reference) [B]; estimated on a few samples where a token depends on those before it.

        noise: of the samples, uniform in (0, 1), [B, n, K]; the same each time where there is none. A loss needs its
        own each time.
        """
        choices = self._choices(seen)
        return choices.divergence(self._choices(reference_logits), self._prefixes(choices, noise))

    def _choices(self, seen: Features | Logits) -> Choices:
        return sampling.choices_of(self.action_space, self.logits(seen) if isinstance(seen, Features) else seen)

    # --- parts ----------------------------------------------------------------------------------------------

    def _view(self, slot: Slot) -> int:
        """The newest frame of the camera that a `place` slot points into."""
        if slot.camera not in self.cameras:
            raise ValueError(
                f"action_space points into camera {slot.camera!r}; the cameras are {', '.join(self.cameras)}"
            )
        return (self.cameras.index(slot.camera) + 1) * self.settings.stack - 1

    @property
    def _grounded(self) -> Kept:
        """What is kept of frozen, grounded features; nothing goes on with them where the trunk trains."""
        return dataclasses.replace(self.kept, prefix=self.kept.prefix and self.frozen_trunk)

    def _look(self, trunk: Trunk, observation: Mapping[str, Any], kept: Kept) -> Features:
        seen = inputs_of(observation, self.cameras, self.settings.stack, self.state_dim, self.device)
        with self.precision():
            features = trunk(*seen, kept)
        if not features.remembering:
            return features
        return features.beside({REMEMBERED: self.before(observation, len(features))})

    def before(self, observation: Mapping[str, Any], rows: int) -> torch.Tensor:
        """What was remembered before the first `rows` observations."""
        noted = observation.get(REMEMBERED)
        if noted is None:
            assert self.remembered_shape is not None, "nothing is remembered"
            noted = torch.zeros(rows, *self.remembered_shape)
        return sent(torch.as_tensor(noted)[:rows], self.device)

    def _noise(self, rows: int, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        noise = torch.rand(rows, n, len(self.slots), generator=generator, device="cpu" if generator else self.device)
        return sent(noise.clamp_(1e-6, 1 - 1e-6), self.device)

    @torch.no_grad()
    def _prefixes(self, choices: Choices, noise: torch.Tensor | None = None) -> torch.Tensor | None:
        """Decisions to average conditionals over, where there are any; the same unless `noise` differs."""
        if not self._conditional:
            return None
        if noise is None:
            noise = self._noise(len(choices), _ENTROPY_SAMPLES, torch.Generator().manual_seed(0))
        return choices.sample(noise)
