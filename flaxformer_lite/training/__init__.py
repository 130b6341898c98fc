"""Training runs: setup, loop, evaluation."""
