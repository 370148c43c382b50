"""The worlds in the registries of Gymnasium and RLlib, with the keys of RLlib's former wrapper."""
