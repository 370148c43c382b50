"""Studies: trials of a learner's settings, evaluated on held-out logs."""
