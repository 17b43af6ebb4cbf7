"""Environments as the trainer sees them, one decision (K tokens) a step, here or in worker processes."""

from vla_rl.envs.episode import Step, steps
from vla_rl.envs.make import (
    SUCCESS,
    ObservationShape,
    Past,
    batched,
    check_finite,
    earned,
    factory,
    make_env,
    marks,
    name_of,
    possible_returns,
    register_installed,
    shifts,
    spent,
    spoilt,
    still,
    succeeded,
)
from vla_rl.envs.spec import EnvSpec, Lane, joint, lanes
from vla_rl.envs.token_env import TokenEnv, bind_tokens, token_factory

__all__ = [
    "SUCCESS",
    "EnvSpec",
    "Lane",
    "ObservationShape",
    "Past",
    "Step",
    "TokenEnv",
    "batched",
    "bind_tokens",
    "check_finite",
    "earned",
    "factory",
    "joint",
    "lanes",
    "make_env",
    "marks",
    "name_of",
    "possible_returns",
    "register_installed",
    "shifts",
    "spent",
    "spoilt",
    "steps",
    "still",
    "succeeded",
    "token_factory",
]
