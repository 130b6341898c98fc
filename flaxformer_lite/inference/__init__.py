"""What a trained model is asked: hypotheses, scores, metrics."""
