"""What touches the world while training: programs, checkpoints, writers, the loop."""
