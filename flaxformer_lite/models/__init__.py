"""Encoder-decoder models: token arrays to logits."""
