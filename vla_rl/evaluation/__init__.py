"""Episodes on held-out seeds, what became of them, and what is left behind of that."""
