"""Scorers with weights of (1, user, candidate) only."""

from __future__ import annotations

import numpy as np

from slateflow.learners.bandits import bilinear_scorer
from slateflow.policies import Scorer


def linear_scorer(weights, spec) -> Scorer:
    products = np.zeros((1 + spec.user_size, 1 + spec.document_size))
    products[0, 0], products[1:, 0] = weights[0], weights[1 : 1 + spec.user_size]
    products[0, 1:] = weights[1 + spec.user_size :]
    return bilinear_scorer(products.reshape(-1), spec)
