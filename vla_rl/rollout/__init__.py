"""Who acts: in training, where it is remembered, and with a trained policy."""
