"""Values of policies from logs alone."""
