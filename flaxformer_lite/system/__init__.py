"""Files, locks, processes, logging and compilation, independent of models."""
