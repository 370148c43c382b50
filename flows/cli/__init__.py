"""The `slateflow` command line."""
