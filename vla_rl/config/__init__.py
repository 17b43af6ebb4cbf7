"""A run's config: its keys and types, composed from YAML and the command line, saved with the run."""

from vla_rl.config.compose import CONFIG_FILE
from vla_rl.config.loading import given, load
from vla_rl.config.schema import RunConfig, SftConfig

__all__ = ["CONFIG_FILE", "RunConfig", "SftConfig", "given", "load"]
