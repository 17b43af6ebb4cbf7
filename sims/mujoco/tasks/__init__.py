"""One small file a task; each bears the name of its scene in `assets/mujoco`."""
