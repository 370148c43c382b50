"""The network that all neural learners share: it rates one candidate at a time."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import TargetNetworkAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.models.torch.torch_distributions import TorchCategorical
from torch import nn

from slateflow.environments import EnvironmentSpec
from slateflow.policies import Scorer


def network(inputs: int, width: int, layers: int) -> nn.Sequential:
    """`layers` ReLU layers of `width`, and a linear output."""
    modules: list[nn.Module] = []
    for layer in range(layers):
        modules += [nn.Linear(inputs if layer == 0 else width, width), nn.ReLU()]
    return nn.Sequential(*modules, nn.Linear(width, 1))


class ScoringModule(TorchRLModule, ValueFunctionAPI, TargetNetworkAPI):
    """f(user, steps left, candidate), with weights that all of the N candidates share.

    So its outputs are permuted with the candidates, and it takes any number of them. Read as
    logits they are a policy, read as values a Q-function. A second network values the state for
    MARWIL, IQL and PPO.

    `model_config` has user_size, document_size, width, layers, `values_states` (whether a second
    network values the state), offset and scale to standardise the features, and, where observations
    have the numbers of candidates in a catalogue, the features of its `items` (I, D). The first
    layer then processes each item once for all rows.
    """

    def setup(self) -> None:
        """Build the networks."""
        config = self.model_config
        self.known = config["user_size"] + 1  # features that all candidates share
        self.document_size = config["document_size"]
        self.scorer = network(self.known + self.document_size, config["width"], config["layers"])
        if config["values_states"]:
            self.value = network(self.known, config["width"], config["layers"])
        self.register_buffer("offset", torch.tensor(config["offset"]))
        self.register_buffer("scale", torch.tensor(config["scale"]))
        items = config.get("items")
        items = None if items is None else self.standardised(torch.tensor(items))
        self.register_buffer("items", items, persistent=False)
        self.action_dist_cls = TorchCategorical

    def known_features(self, observation: torch.Tensor) -> torch.Tensor:
        """Standardised features (B, U + 1) that all candidates share."""
        known = observation[:, : self.known] - self.offset[: self.known]
        return known / self.scale[: self.known]

    def features(
        self, observation: torch.Tensor, action: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Standardised features (B, N, F) of all candidates, or (B, F) of those at `action`."""
        known, candidates = self.known_features(observation), observation[:, self.known :]
        if self.items is None:
            candidates = candidates.unflatten(1, (-1, self.document_size))
        if action is None:
            known = known[:, None].expand(-1, candidates.shape[1], -1)
        else:
            candidates = candidates[torch.arange(len(action)), action]
        if self.items is None:
            candidates = self.standardised(candidates)
        else:
            candidates = self.items[candidates.long()]
        return torch.cat([known, candidates], dim=-1)

    def standardised(self, candidates: torch.Tensor) -> torch.Tensor:
        """Standardised features (…, D) of candidates."""
        return (candidates - self.offset[self.known :]) / self.scale[self.known :]

    def score(self, scorer: nn.Sequential, observation: torch.Tensor) -> torch.Tensor:
        """(B, N) scores of the candidates in a flat observation; −∞ where a row has fewer."""
        if self.items is None:
            scored: torch.Tensor = scorer(self.features(observation)).squeeze(2)
            return scored
        of_known, of_items = scorer[0].weight.split([self.known, self.document_size], dim=1)
        known = nn.functional.linear(
            self.known_features(observation), of_known, scorer[0].bias
        )  # (B, W)
        number = observation[:, self.known :].long()  # (B, N)
        items = nn.functional.embedding(number.clamp(min=0), self.items @ of_items.T)
        scored = scorer[1:](known[:, None] + items).squeeze(2)
        return scored.masked_fill(number < 0, -torch.inf)

    def score_one(
        self, scorer: nn.Module, observation: torch.Tensor, action: torch.Tensor
    ) -> torch.Tensor:
        """(B,) score of the candidate at position `action` (B,)."""
        scored: torch.Tensor = scorer(self.features(observation, action))
        return scored.squeeze(1)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.score(self.scorer, batch[Columns.OBS])}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        """(B,) value of the state, without regard to the candidates."""
        value: torch.Tensor = self.value(self.known_features(batch[Columns.OBS]))
        return value.squeeze(1)

    def make_target_networks(self) -> None:
        """Make a copy of the scorer that follows it slowly."""
        self.target_scorer = copy.deepcopy(self.scorer).requires_grad_(False)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """The scoring network and the copy that follows it."""
        return [(self.scorer, self.target_scorer)]

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Scores (B, N) by the copy that follows the network."""
        return {"qf_preds": self.score(self.target_scorer, batch[Columns.OBS])}


def export_network(
    scorer: nn.Sequential, module: ScoringModule, spec: EnvironmentSpec, window: int
) -> Scorer:
    """The trained network as a `Scorer`, which needs only NumPy."""
    linear = [
        (m.weight.detach().numpy().astype(np.float64).T, m.bias.detach().numpy().astype(np.float64))
        for m in scorer
        if isinstance(m, nn.Linear)
    ]
    features = len(module.offset)
    (head, head_bias) = linear.pop()
    return Scorer(
        user_size=module.known - 1,
        slate_size=spec.slate_size,
        horizon=spec.horizon,
        window=window,
        offset=module.offset.numpy().astype(np.float64),
        scale=module.scale.numpy().astype(np.float64),
        powers=np.zeros((0, features), dtype=np.int64),
        head=head.T,
        head_bias=head_bias,
        weights=tuple(weight for weight, _ in linear),
        biases=tuple(bias for _, bias in linear),
    )
