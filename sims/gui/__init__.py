"""Drawn screens: a kit of widgets, and tasks on them."""
