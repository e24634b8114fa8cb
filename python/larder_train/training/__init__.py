"""The optimisation loop: schedules, checkpoints, progress."""
