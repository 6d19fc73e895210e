"""The training loop, the same for every method: `loop` (steps, checkpoints, telemetry) and `runs` (one run's job)."""
