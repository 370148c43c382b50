"""The science of Slateflow: worlds, policies, trajectories, learners and the verdict.

A plain library: it knows neither Prefect nor MLflow, and importing it imports neither Ray nor
torch.
"""
