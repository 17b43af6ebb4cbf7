"""A world that shifts in mid-run: how that is noticed, and what then is done differently for a while."""
