"""Simulators: Gymnasium environments that know nothing of learning. Importing this registers them."""

from sims.register import register_envs

register_envs()
