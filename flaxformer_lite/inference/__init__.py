"""Inference with trained models: hypotheses, scores, metrics."""
