"""Fitted-Q iteration in closed form, as an RLlib algorithm.

Backwards from the end of the episode: Q₁ regresses the reward on a polynomial of (user,
candidate), and Q_k regresses the reward plus the best Q_{k-1} at the next step's candidates
(Ernst, Geurts and Wehenkel 2005, "Tree-Based Batch Mode Reinforcement Learning", figure 1, with
least squares in place of trees). The dynamics do not depend on the time, so every stage uses all
rows, and the design matrix is the same at every stage: it is factored once.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.algorithms.marwil import MARWIL, MARWILConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.utils.metrics import LEARNER_RESULTS

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.policies import Scorer


def monomials(user_size: int, document_size: int, degree: int) -> NDArray[np.int64]:
    """(P, F) exponents of all monomials of (user, candidate) up to the degree; 0 for the time."""
    exponents = [
        (*powers[:user_size], 0, *powers[user_size:])
        for powers in product(range(degree + 1), repeat=user_size + document_size)
        if sum(powers) <= degree
    ]
    return np.array(exponents, dtype=np.int64)


class PolynomialModule(TorchRLModule):
    """A table of weights: a row for each number of steps left, a column for each monomial.

    `model_config`: user_size, document_size, degree, window, and the offset and scale by which
    the features are standardised.
    """

    def setup(self) -> None:
        """Make the tables; the learner fills them."""
        config = self.model_config
        self.known = config["user_size"] + 1
        self.document_size = config["document_size"]
        powers = monomials(config["user_size"], self.document_size, config["degree"])
        self.register_buffer("powers", torch.from_numpy(powers))
        self.register_buffer("offset", torch.tensor(config["offset"], dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(config["scale"], dtype=torch.float64))
        self.register_buffer("stage", torch.zeros((), dtype=torch.int64))
        self.register_buffer(
            "head", torch.zeros((config["window"], len(powers)), dtype=torch.float64)
        )

    def known_powers(self, observation: torch.Tensor) -> torch.Tensor:
        """(B, P) the user's part of each monomial."""
        return self._powers(observation[:, : self.known].double(), slice(0, self.known))

    def candidate_powers(self, candidates: torch.Tensor) -> torch.Tensor:
        """(…, P) the candidate's part of each monomial, from (…, D)."""
        return self._powers(candidates.double(), slice(self.known, None))

    def _powers(self, values: torch.Tensor, features: slice) -> torch.Tensor:
        x = (values - self.offset[features]) / self.scale[features]
        return torch.pow(x.unsqueeze(-2), self.powers[:, features]).prod(dim=-1)

    def candidates(self, observation: torch.Tensor) -> torch.Tensor:
        """(B, N, D) the candidates in a flat observation."""
        return observation[:, self.known :].unflatten(1, (-1, self.document_size))

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        observation = batch[Columns.OBS]
        window = len(self.head)
        row = torch.round(observation[:, self.known - 1] * window).long().clamp(1, window) - 1
        weights = self.known_powers(observation) * self.head[row]
        scores = (self.candidate_powers(self.candidates(observation)) * weights[:, None]).sum(-1)
        return {Columns.ACTION_DIST_INPUTS: scores.float()}


class FittedQLearner(TorchLearner):
    """Every update fits the next stage from the whole batch."""

    value: torch.Tensor | None = None
    """(R,) what the next steps are worth by the last stage; None before the first update."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Nothing descends a gradient here."""

    def _update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        rows = batch[DEFAULT_MODULE_ID]
        module = self.module[DEFAULT_MODULE_ID].unwrapped()
        with torch.no_grad():
            if self.value is None:
                self._prepare(module, rows)
            residual = self._fit_stage(module)
        self.metrics.log_value((DEFAULT_MODULE_ID, "residual"), residual, window=1)
        return {}, {DEFAULT_MODULE_ID: torch.tensor(residual)}, {}

    def compute_loss_for_module(self, **kwargs: Any) -> Any:
        """Never called: `_update` solves the regression instead."""
        raise RuntimeError("fitted-Q has no loss to descend")

    def _prepare(self, module: PolynomialModule, rows: dict[str, torch.Tensor]) -> None:
        """Factor the design, once for all stages.

        Only steps with a successor are used, at every stage alike, so the design is the same.
        """
        ongoing = ~rows[Columns.TERMINATEDS]
        observation = rows[Columns.OBS][ongoing]
        action = rows[Columns.ACTIONS][ongoing]
        if not len(observation):
            raise InputError("dataset: expected episodes of two steps or more, got one-step ones")
        candidates = module.candidates(observation)
        chosen = candidates[torch.arange(len(action)), action]
        self.design = module.known_powers(observation) * module.candidate_powers(chosen)
        config = self.config.learner_config_dict
        gram = self.design.T @ self.design
        gram += config["ridge"] * len(self.design) * torch.eye(len(gram), dtype=gram.dtype)
        factor, failed = torch.linalg.cholesky_ex(gram)
        if failed:
            raise InputError(
                "dataset: expected clicked candidates that vary, got too few different ones for "
                "the polynomial; log a random policy or lower the degree"
            )
        self.factor = factor
        self.rewards = rows[Columns.REWARDS][ongoing].double()
        following = rows[Columns.NEXT_OBS][ongoing]
        self.next_known = module.known_powers(following)  # (R, P)
        # Monomials with the same candidate part share it: (R, N, C), and (C, P) says who shares.
        parts, group = torch.unique(module.powers[:, module.known :], dim=0, return_inverse=True)
        first = torch.stack([(group == index).nonzero()[0, 0] for index in range(len(parts))])
        self.group = torch.nn.functional.one_hot(group, len(parts)).double()  # (P, C)
        self.next_candidates = module.candidate_powers(module.candidates(following))[..., first]
        self.value = torch.zeros_like(self.rewards)
        if int(module.stage):  # restored from a checkpoint
            self.value = self._next_value(module.head[module.stage - 1])

    def _fit_stage(self, module: PolynomialModule) -> float:
        """Regress reward plus next value; then value the next steps by the new Q-function."""
        assert self.value is not None
        target = self.rewards + self.value
        weights = torch.cholesky_solve((self.design.T @ target)[:, None], self.factor)[:, 0]
        module.head[module.stage] = weights
        module.stage += 1
        self.value = self._next_value(weights)
        return float((target - self.design @ weights).square().mean())

    def _next_value(self, weights: torch.Tensor) -> torch.Tensor:
        """(R,) the best value at the next step, less the mean of them all.

        The mean is the same for every candidate: without it the values stay small.
        """
        coefficients = (self.next_known * weights) @ self.group  # (R, C)
        best = torch.einsum("rnc,rc->rn", self.next_candidates, coefficients).amax(dim=1)
        return best - best.mean()


class FittedQ(MARWIL):
    """One call of `train()` is one stage backwards."""

    @classmethod
    def get_default_config(cls) -> FittedQAlgorithmConfig:
        """The configuration this algorithm is built from."""
        return FittedQAlgorithmConfig()

    def training_step(self) -> None:
        """One pass over all rows. MARWIL's own step cannot take a single batch from an iterator."""
        rows = self.offline_data.sample(num_samples=0, return_iterator=True)
        results = self.learner_group.update(
            training_data=TrainingData(data_iterators=rows), minibatch_size=1, num_iters=1
        )
        self.metrics.aggregate(results, key=LEARNER_RESULTS)


class FittedQAlgorithmConfig(MARWILConfig):
    """`learners(learner_config_dict={"ridge": …})`."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or FittedQ)
        self.beta = 0.0
        self.postprocess_inputs = False

    def get_default_learner_class(self) -> type[FittedQLearner]:
        """The closed-form learner."""
        return FittedQLearner


def export_polynomial(module: PolynomialModule, spec: EnvironmentSpec) -> Scorer:
    """The fitted tables as weights that NumPy serves."""
    stages = int(module.stage)
    return Scorer(
        user_size=module.known - 1,
        slate_size=spec.slate_size,
        horizon=spec.horizon,
        window=len(module.head),
        offset=module.offset.numpy().copy(),
        scale=module.scale.numpy().copy(),
        powers=module.powers.numpy().copy(),
        head=module.head[:stages].numpy().copy(),
        head_bias=np.zeros(stages),
    )
