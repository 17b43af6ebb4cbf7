"""What a run stands on: devices and processes, checkpoints, logs, schedules and signals."""
