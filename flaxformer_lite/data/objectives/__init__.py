"""Training objectives that make pairs of a source and a target from text."""
