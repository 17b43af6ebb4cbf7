"""Environments as the trainer sees them, one decision (K tokens) a step, here or in worker processes."""

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
    spoilt,
    still,
    succeeded,
)
from vla_rl.envs.token_env import TokenEnv, bind_tokens, token_factory

__all__ = [
    "SUCCESS",
    "ObservationShape",
    "Past",
    "TokenEnv",
    "batched",
    "bind_tokens",
    "check_finite",
    "earned",
    "factory",
    "make_env",
    "marks",
    "name_of",
    "possible_returns",
    "register_installed",
    "shifts",
    "spoilt",
    "still",
    "succeeded",
    "token_factory",
]
