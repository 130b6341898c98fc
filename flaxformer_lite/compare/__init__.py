"""Comparison of runs: differing settings, metrics over seeds, and significance tests."""
