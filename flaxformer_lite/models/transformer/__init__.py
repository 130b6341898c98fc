"""Transformer encoder and decoder (Vaswani et al. 2017)."""
