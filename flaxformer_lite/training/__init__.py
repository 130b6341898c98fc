"""Training: setup, loop, run state, evaluation, initial parameters, distillation."""
