"""Policies to and from the Hugging Face hub: `vla-rl push` and `vla-rl pull`."""
