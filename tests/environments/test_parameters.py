"""Every parameter of RecSim's users and documents can be set, and has effect in both simulators."""

from __future__ import annotations

import dataclasses
import functools
import inspect

import numpy as np
import pytest

from slateflow.environments import batched_environment, preset, recsim_environment
from slateflow.environments.recsim_import import load_recsim
from slateflow.trajectories import Recipe

RECSIM = load_recsim()
LTS, EVOLUTION, EXPLORATION = (
    RECSIM.long_term_satisfaction,
    RECSIM.interest_evolution,
    RECSIM.interest_exploration,
)

# Constructors of the users and documents of each world.
WORLDS = {
    "lts-20-2": [LTS.LTSUserModel, LTS.LTSStaticUserSampler, LTS.LTSUserState,
                 LTS.LTSDocumentSampler],
    "interest-evolution": [EVOLUTION.IEvUserModel, EVOLUTION.UtilityModelUserSampler,
                           EVOLUTION.IEvUserState, EVOLUTION.UtilityModelVideoSampler],
    "interest-exploration": [EXPLORATION.IEUserModel, EXPLORATION.IEClusterUserSampler,
                             EXPLORATION.IEUserState, EXPLORATION.IETopicDocumentSampler],
}  # fmt: skip
# Classes and streams, which are not numbers of a model.
MACHINERY = {
    "self", "kwargs", "seed", "user_ctor", "user_state_ctor", "doc_ctor", "response_model_ctor",
    "choice_model_ctor",
}  # fmt: skip
# Drawn for a user.
STATE = {
    "lts-20-2": {"net_positive_exposure"},
    "interest-evolution": {"user_interests"},
    "interest-exploration": {"topic_affinity"},
}
# Taken by RecSim's user state, and read by no code of this world: parameters of the cascade choice
# models, which it does not use, and of a user model that it does not have.
UNREAD = {
    "interest-evolution": {
        "score_scaling", "attention_prob", "keep_interact_prob", "min_doc_utility",
        "watched_videos", "impressed_videos", "liked_videos",
    },
}  # fmt: skip


@pytest.mark.parametrize("world", WORLDS)
def test_every_parameter_of_a_constructor_is_a_field_of_the_spec(world):
    fields = {field.name for field in dataclasses.fields(preset(world))}
    for constructor in WORLDS[world]:
        named = set(inspect.signature(constructor.__init__).parameters)
        missing = named - MACHINERY - STATE[world] - UNREAD.get(world, set()) - fields
        assert not missing, f"{constructor.__name__}: {sorted(missing)}"


def test_what_has_no_field_is_read_by_nobody():
    model, choices = EVOLUTION.IEvUserModel, RECSIM.choice_model
    code = [inspect.getsource(model), inspect.getsource(EVOLUTION.IEvUserState.score_document)]
    code.append(inspect.getsource(choices.MultinomialProportionalChoiceModel))
    for name in UNREAD["interest-evolution"]:
        assert not any(name in one for one in code), name


def other(value, field=""):
    """Another valid value of the same kind."""
    if field == "slate_size":
        return value + 1
    match value:
        case bool():
            return not value
        case int():
            return value + 10  # features come in tens
        case float():
            return value * 1.5 - 0.2 if value < 0 else value * 0.5 + 0.3
        case (float(), *_) if abs(sum(value) - 1) < 1e-9:
            return tuple(reversed(value))
        case tuple():
            return tuple(other(one) for one in value)


@pytest.mark.parametrize(
    ("world", "field"),
    [
        (world, field.name)
        for world in WORLDS
        for field in dataclasses.fields(preset(world))
        if field.name != "name"
    ],
)
def test_a_recipe_sets_every_parameter_and_both_simulators_follow(world, field):
    value = other(getattr(preset(world), field), field)
    recipe = Recipe("r", world, 5, 0, {"random": 1}, {field: value})
    assert getattr(recipe.spec, field) == value != getattr(preset(world), field)
    before, after = (played(spec) for spec in (preset(world), recipe.spec))
    if (world, field) == ("lts-20-2", "slate_size"):
        assert before[:2] == after[:2]  # its user clicks the first place in any case
    elif field == "step_limit" and world == "interest-evolution":
        assert before[2] != after[2]  # beyond the length of sessions
    else:
        assert before[0] != after[0]
        assert before[1] != after[1]


@functools.cache
def played(spec) -> tuple[bytes, bytes, int]:
    """Results of RecSim and of the batch for a constant slate, and the horizon."""
    env, batched = recsim_environment(spec), batched_environment(spec, 40)
    slate = np.arange(spec.slate_size)
    single, many = [], []
    batched.reset(seed=3)
    for _ in range(310):  # beyond every step limit
        *step, _ = batched.step(np.tile(slate, (40, 1)))
        many += [np.ravel(one).astype(float) for one in (*step[0].values(), *step[1:])]
    for seed in (3, 4, 5):
        env.reset(seed=seed)
        over = False
        while not over:
            *step, _ = env.step(slate)
            single += [np.ravel(one).astype(float) for one in (*step[0].values(), *step[1:])]
            over = step[2] or step[3]
    return np.concatenate(single).tobytes(), np.concatenate(many).tobytes(), spec.horizon
