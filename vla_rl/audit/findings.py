"""What speaks against an environment, and against the tokens that a run would act by in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vla_rl.audit import probes
from vla_rl.audit.scores import ProbeScore
from vla_rl.audit.sighted_baselines import Twins
from vla_rl.evaluation.outcome import percent
from vla_rl.rewards.gap import HackGap

IGNORANT, IMAGE_BLIND, GAP, EXPERT, PRIVILEGED, COARSE, FORGETFUL = 5.0, 50.0, 2.0, 95.0, 10.0, 10.0, 10.0
"""Limits, in percent: success of a policy that knows nothing; of an image-blind one, of the expert's; paid episodes
that are no success; success of the expert; of moments that look the same, those where the expert acts differently; what
the expert loses by tokens; success of who remembers nothing, where a task is said to need a memory."""


def without_verifier(scores: Sequence[ProbeScore]) -> Iterator[str]:
    """A reward that nothing can be held against."""
    if not any(each.success is not None for score in scores for each in score.played):
        yield "no verifier: its info holds neither `is_success` nor `success` to hold against the reward"


def cheap(scores: Sequence[ProbeScore]) -> Iterator[str]:
    """Success that is too easy, and an expert that has too little."""
    expert = named(scores, probes.EXPERT)
    for score in scores:
        if score.probe.ignorant and score.success > IGNORANT:
            yield f"too easy: {score.probe.name} succeeds in {score.success:.0f}% of episodes (limit {IGNORANT:.0f}%)"
        if score.probe.image_blind and expert and score.success > IMAGE_BLIND / 100 * expert.success:
            yield (
                f"the state leaks the answer: {score.probe.name}, which sees no picture, succeeds in "
                f"{score.success:.0f}% of episodes, the expert in {expert.success:.0f}% "
                f"(limit {IMAGE_BLIND:.0f}% of the expert's)"
            )
    if expert and expert.success < EXPERT:
        yield f"the expert succeeds in {expert.success:.0f}% of episodes only (limit {EXPERT:.0f}%)"


def coarse(scores: Sequence[ProbeScore]) -> Iterator[str]:
    """Tokens that cannot say what the expert does."""
    whole, told = (named(scores, name) for name in (probes.EXPERT, probes.IN_TOKENS))
    if whole and told and whole.success - told.success > COARSE:
        yield (
            f"action_space is too coarse: the expert succeeds in {whole.success:.0f}% of episodes, and in tokens in "
            f"{told.success:.0f}% (limit {COARSE:.0f} points less); try more bins, an even number, or a finer grid"
        )


def forgetful(scores: Sequence[ProbeScore]) -> Iterator[str]:
    """Success of who remembers nothing in a task that is said to need a memory."""
    for score in scores:
        if score.probe.name in (probes.NAMING, probes.THUMBNAILS) and score.success > FORGETFUL:
            yield (
                f"no memory is needed: {score.probe.name}, which goes by the present alone, succeeds in "
                f"{score.success:.0f}% of episodes (limit {FORGETFUL:.0f}%)"
            )


def gaps(scores: Sequence[ProbeScore]) -> Iterator[str]:
    """Reward that is paid without success."""
    for score in scores:
        if score.gap > GAP:
            yield (
                f"the reward pays without success: to {score.probe.name} in {score.gap:.0f}% of episodes "
                f"(limit {GAP:.0f}%)"
            )


def hacked(gap: HackGap | None) -> Iterator[str]:
    """A policy that was trained on what is paid, and learned to be paid without success."""
    if gap is not None and gap.interval[0] > 0:
        low, high = gap.interval
        yield (
            f"the reward can be gamed: a policy that was trained on it is paid {gap.points:.0f} points more often than "
            f"it succeeds (95% interval {low:.0f} to {high:.0f})"
        )


def privileged(alike: Twins) -> Iterator[str]:
    """An expert that knows what a policy cannot see."""
    share = percent(alike.torn, alike.pairs)
    if alike.torn > 1 and share > PRIVILEGED:
        yield (
            f"the expert knows what is not observed: in {alike.torn} of {alike.pairs} pairs of moments that look the "
            f"same, it acts differently (limit {PRIVILEGED:.0f}%); who imitates it learns to guess"
        )


def marked(gamed: bool) -> Iterator[str]:
    """A task that says so itself."""
    if gamed:
        yield "the task is marked as gamed: its reward is meant to pay for something that is not success"


def named(scores: Sequence[ProbeScore], name: str) -> ProbeScore | None:
    """The score of the policy of that name, where it was tried."""
    return next((score for score in scores if score.probe.name == name), None)
