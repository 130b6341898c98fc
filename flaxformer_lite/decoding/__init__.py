"""Searches for the target of a source. They know a model only by its step and its cache."""
