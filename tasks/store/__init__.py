"""The MLflow store: runs, registered versions, the champion's alias."""
