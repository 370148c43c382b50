"""The Prefect server: deployments, events, progress, retries, runs whose process died."""
