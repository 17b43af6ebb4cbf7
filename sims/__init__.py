"""Simulators: Gymnasium environments that know nothing of learning. Importing this registers them."""

from sims.arrays import numeric
from sims.register import register_envs

__all__ = ["numeric", "register_envs"]

register_envs()
