"""Demonstrations: recorded from a scripted expert, read back safely, fed into replay as decisions."""

from vla_rl.data.decisions import Decisions, fill, fitted, fitted_from, remember, to_decisions
from vla_rl.data.files import DemonstrationError, Demonstrations, Episode, load, save
from vla_rl.data.record import demonstrate, record

__all__ = [
    "Decisions",
    "DemonstrationError",
    "Demonstrations",
    "Episode",
    "demonstrate",
    "fill",
    "fitted",
    "fitted_from",
    "load",
    "record",
    "remember",
    "save",
    "to_decisions",
]
