"""Models of users fitted to logs: choices, rewards, session memory and item values."""
