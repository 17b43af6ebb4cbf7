"""Action spaces: tokens <-> environment actions. numpy, Gymnasium's spaces and tokenizers only."""

from vla_rl.actions.binned import Binned
from vla_rl.actions.choice import Choice
from vla_rl.actions.chunk import Chunk
from vla_rl.actions.command import Command, Commands
from vla_rl.actions.compose import Compose
from vla_rl.actions.fast import Fast
from vla_rl.actions.pointer import Pointer
from vla_rl.actions.text import Characters, Span
from vla_rl.actions.tokens import allowed, check_tokens, compressed, horizon, uniform
from vla_rl.actions.variant import Variant

__all__ = [
    "Binned",
    "Characters",
    "Choice",
    "Chunk",
    "Command",
    "Commands",
    "Compose",
    "Fast",
    "Pointer",
    "Span",
    "Variant",
    "allowed",
    "check_tokens",
    "compressed",
    "horizon",
    "uniform",
]
