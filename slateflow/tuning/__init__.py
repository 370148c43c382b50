"""Studies: trials of a learner's settings, judged by held-out logs."""
