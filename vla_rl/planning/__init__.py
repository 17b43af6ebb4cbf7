"""What a run would take, worked out before it is started, and before any weights are loaded."""
