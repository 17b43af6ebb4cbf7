"""What counts as reached, beside what an environment says."""
