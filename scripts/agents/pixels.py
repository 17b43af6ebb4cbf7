"""Two agents that learn from pixels in continuous actions, written from their papers and published settings.

- `DRQV2`: DrQ-v2 (arXiv 2107.09645; github.com/facebookresearch/drqv2). A deterministic actor with clipped noise that
  shrinks, two critics, returns of three steps, pictures shifted at random.
- `RLPD`: RLPD (arXiv 2302.02948; github.com/ikostrikov/rlpd, its settings for pixels). SAC with a temperature that is
  learned, ten critics with LayerNorm, a target from `drawn` of them, half of a batch from demonstrations.

Both here see numbers beside the picture: the state and the instruction's words, through a layer of their own as RLPD's
code does with states. With `film` the words also scale and shift the channels of the picture's features.

Shapes: B rows, C channels, H and W pixels, N numbers, A entries of an action, E critics.
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.agents.course import NUMBERS, PIXELS
from scripts.agents.experience import Batch

LOG_STD = (-20.0, 2.0)
"""Between these lies the logarithm of a Gaussian actor's standard deviation."""


@dataclass(frozen=True)
class Settings:
    """What tells the agents apart.

    image_size: pixels. demo_share: of a batch's rows, those from demonstrations. updates_per_step: critic updates for
    one environment step; less than 1: one every so many steps. critic_updates: of them for one update of the actor.
    learning_starts: random steps before.
    channels, strides: of 3x3 convolutions. latent: what a picture becomes. hidden: layers of every network.
    critics, drawn: how many, and of how many the least is the target. layer_norm: in critics.
    gaussian: a SAC actor with a learned temperature; else a deterministic one with noise of a standard deviation that
    falls from the first of `noise` to the second in `noise_steps`, and is cut at `noise_clip` in targets.
    backup_entropy: whether targets count entropy. target_encoder: whether targets see by an average of the encoder.
    film: whether words steer what is seen. bf16: the encoder computes in bfloat16, which is twice as fast on some CPUs.
    """

    image_size: int = 84
    demo_share: float = 0.0
    batch_size: int = 256
    updates_per_step: float = 0.5
    critic_updates: int = 1
    learning_starts: int = 2000
    capacity: int = 200_000
    gamma: float = 0.99
    n_step: int = 3
    lr: float = 1e-4
    tau: float = 0.01
    channels: tuple[int, ...] = (32, 32, 32, 32)
    strides: tuple[int, ...] = (2, 1, 1, 1)
    shift: int = 4
    latent: int = 50
    hidden: tuple[int, ...] = (1024, 1024)
    critics: int = 2
    drawn: int = 2
    layer_norm: bool = False
    gaussian: bool = False
    noise: tuple[float, float] = (1.0, 0.1)
    noise_steps: int = 50_000
    noise_clip: float = 0.3
    temperature: float = 0.1
    backup_entropy: bool = False
    target_encoder: bool = False
    film: bool = False
    bf16: bool = False


DRQV2 = Settings()
RLPD = Settings(
    image_size=64,
    demo_share=0.5,
    updates_per_step=1.0,
    learning_starts=5000,
    n_step=1,
    lr=3e-4,
    tau=0.005,
    channels=(32, 64, 128, 256),
    strides=(2, 2, 2, 2),
    hidden=(256, 256),
    critics=10,
    drawn=1,
    layer_norm=True,
    gaussian=True,
    target_encoder=True,
)


def random_shift(pictures: Tensor, pad: int) -> Tensor:
    """Pictures [B, C, H, W], each moved by up to `pad` pixels along both axes; the border repeats."""
    if pad == 0:
        return pictures
    count, _, height, width = pictures.shape
    padded = F.pad(pictures, (pad, pad, pad, pad), mode="replicate")
    down, right = torch.randint(0, 2 * pad + 1, (2, count, 1), device=pictures.device)
    rows = (down + torch.arange(height, device=pictures.device))[:, None, :, None]
    columns = (right + torch.arange(width, device=pictures.device))[:, None, None, :]
    each = torch.arange(count, device=pictures.device)[:, None, None, None]
    return padded[each, torch.arange(pictures.shape[1], device=pictures.device)[None, :, None, None], rows, columns]


def layers(sizes: tuple[int, ...], layer_norm: bool = False) -> nn.Sequential:
    """Linear layers with ReLU after each but the last."""
    made: list[nn.Module] = []
    for i, (wide, narrow) in enumerate(itertools.pairwise(sizes)):
        made.append(nn.Linear(wide, narrow))
        if i < len(sizes) - 2:
            made += [nn.LayerNorm(narrow), nn.ReLU()] if layer_norm else [nn.ReLU()]
    return nn.Sequential(*made)


def initialise(module: nn.Module) -> None:
    """Orthogonal weights and no biases, as both agents begin."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.orthogonal_(module.weight, math.sqrt(2) if isinstance(module, nn.Conv2d) else 1.0)
        assert module.bias is not None
        nn.init.zeros_(module.bias)


class Encoder(nn.Module):
    """Pictures float [B, C, H, W] from 0 to 255, and numbers [B, N] -> features [B, F]."""

    def __init__(self, pictures: tuple[int, ...], numbers: int, settings: Settings) -> None:
        super().__init__()
        convolutions: list[nn.Module] = []
        width = pictures[0]
        for channels, stride in zip(settings.channels, settings.strides, strict=True):
            convolutions += [nn.Conv2d(width, channels, 3, stride), nn.ReLU()]
            width = channels
        self.convolutions = nn.Sequential(*convolutions)
        self.film = nn.Linear(numbers, 2 * width) if settings.film else None
        self.bf16 = settings.bf16
        self.apply(initialise)
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
        with torch.no_grad():
            self.size = self(torch.zeros(1, *pictures), torch.zeros(1, numbers)).shape[1]

    def forward(self, pictures: Tensor, numbers: Tensor) -> Tensor:
        scaled = (pictures / 255 - 0.5).contiguous(memory_format=torch.channels_last)
        with torch.autocast(scaled.device.type, torch.bfloat16, enabled=self.bf16):
            seen = self.convolutions(scaled)
        seen = seen.float()
        if self.film is not None:
            scale, offset = self.film(numbers)[:, :, None, None].chunk(2, dim=1)
            seen = F.relu(seen * (1 + scale) + offset)
        return seen.flatten(1)


class Joined(nn.Module):
    """Features and numbers, each through a layer to `latent` entries -> [B, 2 x latent]."""

    def __init__(self, features: int, numbers: int, latent: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Sequential(nn.Linear(size, latent), nn.LayerNorm(latent), nn.Tanh()) for size in (features, numbers)
        )

    def forward(self, features: Tensor, numbers: Tensor) -> Tensor:
        return torch.cat([part(each) for part, each in zip(self.parts, (features, numbers), strict=True)], dim=1)


class Actor(nn.Module):
    """What to do: `mean` before tanh, and log_std where it is Gaussian; [B, A] each."""

    def __init__(self, features: int, numbers: int, actions: int, settings: Settings) -> None:
        super().__init__()
        self.joined = Joined(features, numbers, settings.latent)
        self.net = layers((2 * settings.latent, *settings.hidden, actions * (1 + settings.gaussian)))
        self.gaussian = settings.gaussian
        self.apply(initialise)

    def forward(self, features: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor | None]:
        out = self.net(self.joined(features, numbers))
        if not self.gaussian:
            return out, None
        mean, log_std = out.chunk(2, dim=1)
        return mean, log_std.clamp(*LOG_STD)


class Critics(nn.Module):
    """Values [E, B] of actions [B, A]."""

    def __init__(self, features: int, numbers: int, actions: int, settings: Settings) -> None:
        super().__init__()
        self.joined = Joined(features, numbers, settings.latent)
        sizes = (2 * settings.latent + actions, *settings.hidden, 1)
        self.nets = nn.ModuleList(layers(sizes, settings.layer_norm) for _ in range(settings.critics))
        self.apply(initialise)

    def forward(self, features: Tensor, numbers: Tensor, action: Tensor) -> Tensor:
        known = torch.cat([self.joined(features, numbers), action], dim=1)
        return torch.stack([net(known)[:, 0] for net in self.nets])


class Agent:
    """Acts, and learns from batches.

    pictures: [C, H, W]. numbers, actions: how many of each.
    """

    def __init__(
        self, pictures: tuple[int, ...], numbers: int, actions: int, settings: Settings, device: str = "cpu"
    ) -> None:
        self.settings, self.actions, self.device = settings, actions, torch.device(device)
        self.encoder = Encoder(pictures, numbers, settings).to(self.device)
        self.actor = Actor(self.encoder.size, numbers, actions, settings).to(self.device)
        self.critics = Critics(self.encoder.size, numbers, actions, settings).to(self.device)
        self.target = copy.deepcopy(self.critics).requires_grad_(False)
        self.target_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.log_temperature = torch.tensor(math.log(settings.temperature), requires_grad=True, device=self.device)
        self.seeing = torch.optim.Adam([*self.encoder.parameters(), *self.critics.parameters()], lr=settings.lr)
        self.acting = torch.optim.Adam(self.actor.parameters(), lr=settings.lr)
        self.cooling = torch.optim.Adam([self.log_temperature], lr=settings.lr)
        self.updates = 0

    @torch.no_grad()
    def act(self, seen: dict[str, Tensor], env_steps: int = 0, greedy: bool = False) -> Tensor:
        """Actions [B, A]; with noise, of as many steps as there were, unless greedy."""
        pictures, numbers = self._on_device(seen)
        mean, log_std = self.actor(self.encoder(pictures, numbers), numbers)
        if greedy:
            return torch.tanh(mean).cpu()
        if log_std is not None:
            return torch.tanh(mean + log_std.exp() * torch.randn_like(mean)).cpu()
        return (torch.tanh(mean) + self.noise(env_steps) * torch.randn_like(mean)).clamp(-1, 1).cpu()

    def noise(self, env_steps: int) -> float:
        """Standard deviation of the noise after so many steps."""
        first, last = self.settings.noise
        return first + (last - first) * min(env_steps / self.settings.noise_steps, 1.0)

    def update(self, batch: Batch, env_steps: int) -> None:
        """Teach the critics and what they see by; every `critic_updates` times the actor, too."""
        batch = Batch(batch.seen, *(each.to(self.device) for each in batch[1:4]), batch.following)
        pictures, numbers = self._on_device(batch.seen)
        pictures = random_shift(pictures, self.settings.shift)
        with torch.no_grad():
            target = self.targets(batch, env_steps)
        features = self.encoder(pictures, numbers)
        loss = F.mse_loss(self.critics(features, numbers, batch.action), target.expand(self.settings.critics, -1))
        self._step(self.seeing, loss * self.settings.critics)
        self.updates += 1
        if self.updates % self.settings.critic_updates == 0:
            self._update_actor(features.detach(), numbers, env_steps)
        with torch.no_grad():
            follow(self.target, self.critics, self.settings.tau)
            follow(self.target_encoder, self.encoder, self.settings.tau if self.settings.target_encoder else 1.0)

    def targets(self, batch: Batch, env_steps: int) -> Tensor:
        """What the critics are taught, [B]: reward + discount * value of what the actor would do then."""
        pictures, numbers = self._on_device(batch.following)
        pictures = random_shift(pictures, self.settings.shift)
        action, log_prob = self._sample(self.encoder(pictures, numbers), numbers, env_steps)
        values = self.target(self.target_encoder(pictures, numbers), numbers, action)
        value = values[torch.randperm(self.settings.critics)[: self.settings.drawn]].min(dim=0).values
        if self.settings.backup_entropy:
            value = value - self.log_temperature.exp() * log_prob
        return batch.reward + batch.discount * value

    def _update_actor(self, features: Tensor, numbers: Tensor, env_steps: int) -> None:
        action, log_prob = self._sample(features, numbers, env_steps)
        values = self.critics(features, numbers, action)
        if not self.settings.gaussian:
            self._step(self.acting, -values.min(dim=0).values.mean())
            return
        temperature = self.log_temperature.exp()
        self._step(self.acting, (temperature.detach() * log_prob - values.mean(dim=0)).mean())
        spare = (-log_prob.detach() - -self.actions / 2).mean()  # entropy above its aim
        self._step(self.cooling, temperature * spare)

    def _sample(self, features: Tensor, numbers: Tensor, env_steps: int) -> tuple[Tensor, Tensor]:
        """Actions [B, A] as they are learned from, through which gradients flow, and their log probability [B]."""
        mean, log_std = self.actor(features, numbers)
        if log_std is None:
            clip = self.settings.noise_clip
            noise = (self.noise(env_steps) * torch.randn_like(mean)).clamp(-clip, clip)
            action = torch.tanh(mean) + noise
            return action + (action.clamp(-1, 1) - action).detach(), torch.zeros_like(mean[:, 0])
        noise = torch.randn_like(mean)
        raw = mean + log_std.exp() * noise
        normal = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        squashed = 2 * (math.log(2) - raw - F.softplus(-2 * raw))  # log(1 - tanh(raw)^2)
        return torch.tanh(raw), (normal - squashed).sum(dim=1)

    def _on_device(self, seen: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return seen[PIXELS].to(self.device).float(), seen[NUMBERS].to(self.device)

    def _step(self, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        for parameters in (self.critics, self.encoder):  # what the actor's loss went through
            parameters.zero_grad(set_to_none=True)


def follow(slow: nn.Module, fast: nn.Module, share: float) -> None:
    """Move `slow` by `share` of the way to `fast`."""
    for mine, theirs in zip(slow.parameters(), fast.parameters(), strict=True):
        mine.lerp_(theirs, share)
