"""Whether an environment measures what it says: what policies score that should fail, and what is paid without success.

Every policy plays the same training seeds; held-out ones are never touched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vla_rl import envs, registry, specs
from vla_rl.audit import findings, probes
from vla_rl.audit.playing import rollout
from vla_rl.audit.probes import Probe
from vla_rl.audit.scores import ProbeScore
from vla_rl.audit.sighted_baselines import Glance, Twins, twins
from vla_rl.data.record import missing_expert
from vla_rl.registry import ConfigError
from vla_rl.specs import IMAGES, ActionSpace

if TYPE_CHECKING:
    from vla_rl.audit.hacker import Hacked
    from vla_rl.config import RunConfig

FIRST_SEED = 400_000
"""Seeds of the audit's episodes begin at so many plus the run's `seed`, as far as there are training seeds left."""
DEMO_SEED = 300_000
DEMOS = 100
"""Episodes of the expert, ever noisier, from seed DEMO_SEED on, that an image-blind policy is fitted to."""
LUCKY, REPLAYS = 16, 8
"""So many of the shortest episodes that chance was paid for are replayed on so many seeds from DEMO_SEED on."""
LOOKS = 40
"""So many of those episodes are played with the pictures, too."""


@dataclass(frozen=True)
class Audit:
    """What an environment's policies got. skipped: the policies that could not be tried, and why.

    gamed, needs_memory: what its task says of itself: that it pays without success, that no glance should solve it.
    twins: moments that look the same, and in how many of them the expert acts differently. hacked: what became of a
    policy that was trained on what is paid; None where none was.
    """

    env: str
    gamed: bool
    needs_memory: bool
    first_seed: int
    scores: tuple[ProbeScore, ...]
    skipped: dict[str, str]
    twins: Twins
    hacked: Hacked | None = None

    @property
    def reasons(self) -> list[str]:
        """What speaks against the environment; empty where it passes."""
        found = [*findings.without_verifier(self.scores), *findings.cheap(self.scores), *findings.coarse(self.scores)]
        found += [*findings.gaps(self.scores), *findings.privileged(self.twins)]
        found += findings.forgetful(self.scores) if self.needs_memory else []
        found += findings.hacked(self.hacked.gap) if self.hacked else []
        return [*found, *findings.marked(self.gamed)]

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "env": self.env,
            "passed": self.passed,
            "reasons": self.reasons,
            "gamed": self.gamed,
            "needs_memory": self.needs_memory,
            "first_seed": self.first_seed,
            "policies": [score.as_json() for score in self.scores],
            "alike": {"pairs": self.twins.pairs, "expert_differs": self.twins.torn},
            "skipped": self.skipped,
        } | ({"trained": self.hacked.as_json()} if self.hacked else {})


def audit(run: RunConfig, episodes: int = 100, as_json: bool = False, train_hacker: bool = False) -> bool:
    """Print what `examine` finds of the run's environment, a table or one JSON object; whether it passes.

    train_hacker: also train a policy on what is paid, in `run.run_dir`, for `run.train.minutes`.

    Raises:
        ConfigError: no episodes, or an environment that cannot be made.
    """
    run = run.only("audit")
    if episodes < 1:
        raise ConfigError(f"--episodes: at least 1, got {episodes}")
    room = specs.TRAINING_SEEDS.stop - FIRST_SEED - episodes + 1
    first_seed = specs.check_training_seed(FIRST_SEED + run.seed % max(room, 1), episodes, "--episodes")
    env = envs.factory(unseen(run), past=envs.Past())()
    tokens = partial(envs.bind_tokens, run.action_space, env.action_space, run.plugins)
    try:
        found = examine(env, episodes, first_seed, envs.factory(run, past=envs.Past()), tokens)
    finally:
        env.close()
    if train_hacker:
        assert run.run_dir is not None, "a config is made by load()"
        seeds = range(first_seed, first_seed + episodes)
        # Named, so that an audit without it does not wait for torch.
        hacked = registry.named("vla_rl.audit.hacker:hack")(run, run.run_dir, seeds, DEMO_SEED)
        found = replace(found, hacked=replace(hacked, score=_verified([*found.scores, hacked.score])[-1]))
    if as_json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        _show(found)
    return found.passed


def unseen(run: RunConfig) -> RunConfig:
    """The run without its cameras, which few policies of an audit look at and which take the most time."""
    if run.env.sensors is None:
        return run
    env = envs.factory(run)()
    seen = {f"{IMAGES}{registry.build('sensors', each, run.plugins).name}": each for each in run.env.sensors}
    pictures = env.observation_space.spaces.keys() & seen.keys()  # type: ignore[attr-defined]
    env.close()
    rest = [sensor for key, sensor in seen.items() if key not in pictures]
    bare = run.env.model_copy(update={"sensors": rest, "image_size": None})
    return run.model_copy(update={"env": bare}) if rest else run


def examine(
    env: gymnasium.Env,
    episodes: int,
    first_seed: int = FIRST_SEED,
    sighted: Callable[[], gymnasium.Env] | None = None,
    tokens: Callable[[], ActionSpace] | None = None,
) -> Audit:
    """Let every policy play `episodes` episodes of the seeds from `first_seed` on.

    `sighted` makes the same environment with its pictures, where `env` has none. `tokens` binds what a policy would
    act by; a ValueError of it says why the expert cannot.
    """
    seeds = range(first_seed, first_seed + episodes)
    name = envs.name_of(env)
    skipped: dict[str, str] = {}
    alike = Twins()
    with _progress(name) as count:

        def play(probe: Probe) -> ProbeScore:
            return ProbeScore(probe, tuple(rollout(env, probe, seed, count) for seed in seeds))

        scores, lucky = [], list[list[Any]]()
        for probe in probes.ignorant():
            tried: list[list[Any]] = []
            scores.append(play(probes.recorded(probe, tried)))
            lucky += [actions for actions, each in zip(tried, scores[-1].played, strict=True) if each.paid]
        scores += [play(probe) for probe in _luckiest(env, lucky)]
        if env.has_wrapper_attr("things") and callable(env.get_wrapper_attr("things")):
            scores.append(play(probes.naming()))
        missing = missing_expert(env, first_seed)
        if missing:
            skipped["expert, imperfect experts, image-blind"] = missing
        else:
            scores.append(whole := play(probes.expert()))
            if tokens is not None:
                scores += _in_tokens(play, tokens, skipped)
            length = int(np.median([each.length for each in whole.played]))
            scores += [play(probe) for probe in probes.imperfect(length)]
            seeing = sighted() if sighted else env
            try:
                alike, glances = _sighted(seeing, skipped)
                for probe in glances:
                    scores.append(ProbeScore(probe, tuple(rollout(seeing, probe, seed, count) for seed in seeds)))
            finally:
                if sighted:
                    seeing.close()
            scores += [play(probe) for probe in _image_blind(env, skipped)]
    task = getattr(env.unwrapped, "task", None)
    says: dict[str, Any] = {word: bool(getattr(task, word, False)) for word in ("gamed", "needs_memory")}
    return Audit(name, first_seed=first_seed, scores=_verified(scores), skipped=skipped, twins=alike, **says)


def _verified(scores: Sequence[ProbeScore]) -> tuple[ProbeScore, ...]:
    """The scores, where an environment that tells of any success has told of failure by saying nothing."""
    if not any(each.success for score in scores for each in score.played):
        return tuple(scores)
    return tuple(
        replace(score, played=tuple(replace(each, success=bool(each.success)) for each in score.played))
        for score in scores
    )


def _luckiest(env: gymnasium.Env, lucky: Sequence[list[Any]]) -> tuple[Probe, ...]:
    """The episode that was paid by chance which, done over again on other seeds, is paid most often; or none."""

    def paid(probe: Probe) -> int:
        return sum(rollout(env, probe, DEMO_SEED + number).paid for number in range(REPLAYS))

    shortest = sorted(lucky, key=len)[:LUCKY]
    return (max(map(probes.replayed, shortest), key=paid),) if shortest else ()


def _in_tokens(
    play: Callable[[Probe], ProbeScore], tokens: Callable[[], ActionSpace], skipped: dict[str, str]
) -> tuple[ProbeScore, ...]:
    """The expert's score where it acts by tokens, or none and the reason why."""
    try:
        return (play(probes.expert_in(tokens())),)
    except ValueError as error:
        skipped[probes.IN_TOKENS] = str(error)
        return ()


def _image_blind(env: gymnasium.Env, skipped: dict[str, str]) -> tuple[Probe, ...]:
    """Blind policies fitted to the noisy expert, or none and the reason why."""
    observations: list[Any] = []
    actions: list[Any] = []
    for number in range(DEMOS):
        noise = probes.NOISE * number / (DEMOS - 1)  # some that do it right, some that stray
        rollout(env, probes.demonstrating(noise, observations, actions), DEMO_SEED + number)
    try:
        return probes.image_blind(observations, actions, env.action_space)
    except ValueError as error:
        skipped["image-blind"] = str(error)
        return ()


def _sighted(env: gymnasium.Env, skipped: dict[str, str]) -> tuple[Twins, tuple[Probe, ...]]:
    """Where the noisy expert acts differently though all looks the same, and a policy that hardly looks."""
    played: list[tuple[list[Any], list[Any]]] = []
    count = min(LOOKS, DEMOS)
    for number in range(count):
        played.append(([], []))
        noise = probes.NOISE * number / max(count - 1, 1)
        rollout(env, probes.demonstrating(noise, *played[-1]), DEMO_SEED + number)
    seen, done = ([each for episode in played for each in episode[part]] for part in (0, 1))
    try:
        return twins(played, env.action_space), (probes.glancing(Glance.of(seen, done, env.action_space)),)
    except ValueError as error:
        skipped["sighted"] = str(error)
        return Twins(), ()


def _show(found: Audit) -> None:
    """A table and the verdict, for people."""
    console = Console()
    title = f"{found.env}{' (marked as gamed)' if found.gamed else ''}: seeds from {found.first_seed}"
    table = Table(title=title, title_justify="left")
    table.add_column("policy", no_wrap=True)
    for column in ("success", "95% interval", "paid", "gap", "length", "cost"):
        table.add_column(column, justify="right")
    for score in (*found.scores, *([found.hacked.score] if found.hacked else [])):
        row = score.as_json()
        low, high = row["success_ci95"]
        shares = (f"{row['success']:.0f} %", f"{low:.0f} to {high:.0f}", f"{row['paid']:.0f} %", f"{row['gap']:.0f} %")
        table.add_row(score.probe.name, *shares, f"{row['mean_length']:.1f}", f"{row['mean_cost']:.2f}")
    console.print(table)
    console.print("gap: episodes in which a reward was paid and the verifier says no", style="dim")
    if found.twins.pairs:
        console.print(f"moments that look the same: {found.twins.pairs}; the expert differs in {found.twins.torn}")
    if found.hacked:
        console.print(found.hacked.said, soft_wrap=True)
    for names, reason in found.skipped.items():
        console.print(f"not tried: {names}: {reason}", soft_wrap=True)
    console.print("PASS" if found.passed else "FAIL")
    for reason in found.reasons:
        console.print(f"  {reason}", soft_wrap=True)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[str], None]]:
    """A passing bar on the error stream; yields what to call with the policy's name after each episode."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"audit of {name}", total=None)
        yield lambda policy: progress.update(bar, advance=1, description=f"audit of {name}: {policy}")
