"""The parts of scripts/chaos.py: what goes wrong, whose lives it costs, and the book that is kept of it."""
