"""The flows, one in each file, and the command line."""
