"""Metrics of decoded text."""
