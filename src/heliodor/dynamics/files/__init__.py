"""What a run writes and reads back: trajectories, logs, restart files."""
