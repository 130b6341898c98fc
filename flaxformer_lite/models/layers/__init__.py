"""Layers that stacks are built from."""
