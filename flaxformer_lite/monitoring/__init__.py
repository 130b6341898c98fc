"""Progress, metrics, plots and utilization of a run."""
