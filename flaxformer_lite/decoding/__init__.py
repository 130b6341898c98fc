"""Searches for the target of a source, which use only the step and the cache of a model."""
