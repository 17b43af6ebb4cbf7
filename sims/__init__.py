"""Simulators: Gymnasium environments that know nothing of learning."""
