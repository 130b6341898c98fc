"""Predicts memory, FLOPs, communication and time of training on devices that need not exist."""
