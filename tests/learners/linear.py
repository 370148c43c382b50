"""Scorers with weights of (1, user, candidate) only."""

from __future__ import annotations

import numpy as np

from slateflow.policies import Scorer
from slateflow.user_models.bilinear_scorer import bilinear_scorer


def linear_scorer(weights, spec) -> Scorer:
    products = np.zeros((1 + spec.user_size, 1 + spec.document_size))
    products[0, 0], products[1:, 0] = weights[0], weights[1 : 1 + spec.user_size]
    products[0, 1:] = weights[1 + spec.user_size :]
    return bilinear_scorer(products.reshape(-1), spec)
