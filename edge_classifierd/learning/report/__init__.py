"""Reports on evaluations and trainings: HTML with plots, and JSON."""
