"""Encoder-decoder models in JAX and Flax Linen: train, resume exactly, decode from the work folder."""
