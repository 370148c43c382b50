"""The scoring network for learners with live users."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, QNetAPI

from slateflow.learners.rllib.scoring_network import ScoringModule


class PolicyModule(ScoringModule, InferenceOnlyAPI):
    """The scoring network as a policy, and the value of the state for the advantages."""

    def get_non_inference_attributes(self) -> list[str]:
        """Networks that acting does not need."""
        return ["value"]


class ExploringQModule(ScoringModule, QNetAPI, InferenceOnlyAPI):
    """The scoring network as a Q-function that explores ε-greedily.

    `model_config` has `exploration_steps`, during which ε falls from 1 to `final_epsilon`.
    """

    def compute_q_values(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Values (B, N) of the candidates."""
        return {"qf_preds": self.score(self.scorer, batch[Columns.OBS])}

    def get_non_inference_attributes(self) -> list[str]:
        """Networks that acting does not need."""
        return ["target_scorer"]

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTIONS: self.score(self.scorer, batch[Columns.OBS]).argmax(dim=1)}

    def _forward_exploration(
        self, batch: dict[str, Any], t: int = 0, **kwargs: Any
    ) -> dict[str, Any]:
        best = self._forward_inference(batch)[Columns.ACTIONS]
        done = min(t / self.model_config["exploration_steps"], 1.0)
        epsilon = 1 + done * (self.model_config["final_epsilon"] - 1)
        candidates = (batch[Columns.OBS].shape[1] - self.known) // self.document_size
        anything = torch.randint(candidates, best.shape)
        return {Columns.ACTIONS: torch.where(torch.rand(best.shape) < epsilon, anything, best)}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        following = batch[Columns.NEXT_OBS]
        return {
            "qf_preds": self.score(self.scorer, batch[Columns.OBS]),
            "qf_next_preds": self.score(self.scorer, following),
            "qf_target_next_preds": self.score(self.target_scorer, following),
        }
