"""Demonstrations: recorded from scripted experts, read back safely, fed into replay."""
