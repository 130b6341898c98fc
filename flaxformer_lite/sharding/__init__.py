"""Placement of arrays on devices."""
