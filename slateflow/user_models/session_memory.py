"""Session memory: a summary of the earlier steps, where it predicts more than the user's features.

The memory is that of `Scorer`: for each decay a sum over the earlier steps of the reward, and of
the clicked candidate's features if these predict more, in which a step's weight is `decay` times
that of the step after it. An exponentially fading sum follows a hidden state that itself fades, as
satisfaction does. The reward enters through its inverse hyperbolic sine, which is logarithmic for
large values and accepts both signs (Burbidge, Magee and Robb 1988, "Alternative Transformations to
Handle Extreme Values of the Dependent Variable"): otherwise a single long watch time would outweigh
a session.

The memory also counts the steps, in a sum of ones that fades alike. At the beginning of a session
all sums are 0, whatever the origin of the columns, but the hidden state is not that of a session
whose clicked items had zeros in them. With the count, sums of x tell as much as those of x − m.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from slateflow.held_out_choice import BEYOND_CHANCE, LEAST_ERROR, better
from slateflow.trajectories.files.dataset import Dataset
from slateflow.trajectories.schema import Trajectories
from slateflow.trajectories.some_sessions import some_sessions
from slateflow.user_models.polynomial import MOST_PRODUCTS, term_count
from slateflow.user_models.random_features import MOST_BESIDE, drawn
from slateflow.user_models.reward_model import Kind, RewardModel

Array = NDArray[np.float64]

FITTING_ROWS = 100_000
"""Approximate most rows for choosing a decay; fewer with more than `MEMORY_TERMS` products."""

DEGREES = (3, 2)
"""Degrees of the polynomials that decide whether there is a memory, high enough not to mistake
bends in the user's own features for one. The last degree is used to find a decay."""

MEMORY_TERMS = 200
"""Most terms of a polynomial; with more, only the products are used."""

STEPS_APART = 10
"""Number of steps with indicators, in comparison with which a learner's memory has to predict
better: sums of shown items count the steps, and the probability of a session's end may jump between
steps."""

MOST_COMPARED = 1_000
"""Most products of user and candidate with which a memory is tried."""

TESTED_DECAYS = ((0.5,), (0.9,))
"""Decays of the memories with which the existence of a memory is tested."""


@dataclass(frozen=True)
class SessionMemory:
    """A memory of the earlier steps of a session.

    Attributes:
        decays: Decays of the sums; empty without a memory.
        items: Whether features of clicked items are summed up beside the rewards.
    """

    decays: tuple[float, ...] = ()
    items: bool = True

    def size(self, document_size: int) -> int:
        """M, the number of remembered values."""
        return len(self.decays) * (document_size * self.items + 2)

    def before(self, rows: Trajectories) -> Array:
        """(R, M) the memory before each step: the sums by decay, then the counts by decay."""
        events = np.arcsinh(rows.reward)[:, None]
        if self.items:
            events = np.column_stack([rows.clicked_features(), events])
        return np.column_stack([faded(events, rows, self.decays), self.counts(rows)])

    def counts(self, rows: Trajectories) -> Array:
        """(R, H) fading counts of the earlier steps, by decay."""
        return faded(np.ones((len(rows), 1)), rows, self.decays)

    def beside_users(self, rows: Trajectories) -> Trajectories:
        """The rows with the memory as further features of the user, (R, U + M)."""
        if not self.decays or not len(rows):
            return rows
        memory = self.before(rows).astype(np.float32)
        return dataclasses.replace(rows, user=np.concatenate([rows.user, memory], axis=1))


NOTHING = SessionMemory()
"""The memory that remembers nothing."""


def faded(events: NDArray[np.floating], rows: Trajectories, decays: tuple[float, ...]) -> Array:
    """Fading sums (R, H P) of events (R, P) over the earlier steps of the session, by decay."""
    from scipy import signal  # takes long to import

    session, lengths = rows.sessions, rows.lengths
    place, number = np.arange(len(rows)) - rows.starts[session], np.empty(len(lengths), np.intp)
    found = np.empty((len(rows), len(decays), events.shape[1]))
    alike = np.frexp(lengths)[1]  # by powers of 2: a long session would pad all others
    for one in np.unique(alike):
        own, inside = np.flatnonzero(alike == one), (alike == one)[session]
        number[own] = np.arange(len(own))
        where = number[session[inside]], place[inside]
        padded = np.zeros((len(own), lengths[own].max(), events.shape[1]))
        padded[where] = events[inside]
        for at, decay in enumerate(decays):
            found[inside, at] = signal.lfilter([0.0, 1.0], [1.0, -decay], padded, axis=1)[where]
    return found.reshape(len(rows), -1)


def with_step(rows: Trajectories, ends: bool = False, apart: int = 0) -> Trajectories:
    """The rows with the logarithm of the step's number as the last feature of the user.

    Args:
        rows: Whole sessions.
        ends: Whether to add another feature for steps after which no session continues: many logs
            limit the number of steps.
        apart: Number of steps, after a session's first, that also have an indicator each.
    """
    columns, most = [rows.user, np.log1p(rows.step, dtype=np.float32)], rows.step.max(initial=0)
    if ends:
        columns.append(rows.step == most)
    columns += [rows.step == one for one in range(1, min(apart + 1, most))]
    return dataclasses.replace(rows, user=np.column_stack(columns).astype(np.float32))


@dataclass(frozen=True)
class SessionState:
    """Properties of a session, beyond the user's features, that predict how it continues.

    Attributes:
        decays: Decays of the memory of clicks and rewards; empty without a memory.
        by_step: Whether the number of the step predicts as well as any memory.
    """

    decays: tuple[float, ...] = ()
    by_step: bool = False


STATELESS = SessionState()
"""State of sessions in which nothing predicts better than the user's features."""


def fitting_memory(dataset: Dataset) -> SessionMemory:
    """The memory with the decays of `session_state`, if it helps a learner.

    A learner needs weights for the whole memory and for its products with the candidate. So
    held-out episodes have to lose less with the whole memory, not only with the part that concerns
    the clicked item. Past rewards also reflect tastes that bend, which are not a memory, so random
    features of the known columns have to predict worse than the memory. The number of the step is
    not a memory either, although sums count the steps.

    A mood shows in the rewards; beyond that, the clicked items only show how much reward was to be
    expected. With features of these items a learner would find, by chance, items that seem to
    improve later moods. So items are remembered only where held-out episodes lose less with them,
    by all sums or by their similarity to the shown item, than with rewards, and also than with
    surprises. (The rewards less the surprises are the rewards expected of the items: if items have
    one column, these are sums of it.) A memory with too many products with the candidate is not
    used.
    """
    decays = session_state(dataset).decays
    every, rewards = SessionMemory(decays), SessionMemory(decays, items=False)
    users, documents = dataset.spec.user_size, dataset.spec.document_size

    def products(memory: SessionMemory) -> int:
        return term_count(users + memory.size(documents), documents, 1)

    if not decays or products(rewards) > MOST_PRODUCTS:
        return NOTHING
    few_enough = products(every) <= MOST_PRODUCTS
    terms = products(every if few_enough else rewards)
    rows = some_sessions(dataset, FITTING_ROWS * MOST_COMPARED // max(terms, MOST_COMPARED))
    if len(np.unique(rows.lengths)) > 1:
        rows = with_step(rows, ends=True, apart=STEPS_APART)
    pairs = [(_with_surprises(rows, every), NOTHING), (rows, rewards)]
    items = few_enough and all(_items_tell(known, every, plain) for known, plain in pairs)
    memory = every if items else rewards
    ours = _held_out_losses(rows, memory, DEGREES, False)
    kinds = [False, True] if term_count(users, documents, 1) <= MOST_BESIDE else [False]
    without = (_held_out_losses(rows, NOTHING, DEGREES, False, random) for random in kinds)
    return memory if all(better(one, ours, BEYOND_CHANCE) for one in without) else NOTHING


def _items_tell(rows: Trajectories, every: SessionMemory, plain: SessionMemory) -> bool:
    """True if held-out episodes lose less with all sums, or their similarity, than with `plain`."""
    without = _held_out_losses(rows, plain, DEGREES, False)
    return any(
        better(without, _held_out_losses(rows, every, DEGREES, condensed), BEYOND_CHANCE)
        for condensed in (False, True)
    )


def _with_surprises(rows: Trajectories, memory: SessionMemory) -> Trajectories:
    """The rows with fading sums of the rewards beyond those expected from the clicked items.

    They also have the memory's counts.
    """
    clicked, reward = rows.clicked >= 0, np.arcsinh(rows.reward, dtype=np.float64)
    x = np.concatenate([rows.user, rows.clicked_features()], axis=1)[clicked].astype(np.float64)
    model = RewardModel.fit(Kind(1, logarithmic=False), x, reward[clicked], rows.user.shape[1])
    reward[clicked] -= model.expected(x)
    sums = faded(reward[:, None], rows, memory.decays)
    user = np.concatenate([rows.user, sums, memory.counts(rows)], axis=1, dtype=np.float32)
    return dataclasses.replace(rows, user=user)


def session_state(dataset: Dataset) -> SessionState:
    """The state that best predicts the rewards and the ends of held-out episodes.

    The state has no memory where sessions have a single step, or where no memory predicts better
    than the user's features alone by more than two standard errors. These features may contain
    everything, such as satisfaction, or nothing about the session, such as an age. Sums of rewards
    also count the steps, on which the probability of a session's end often depends. So where
    sessions differ in length the number of the step is tried first, and a memory has to predict
    better than that.
    """
    users, documents = dataset.spec.user_size, dataset.spec.document_size
    full = term_count(users + SessionMemory((0.0,)).size(documents), documents, 1)
    condensed = full > MEMORY_TERMS
    terms = term_count(users + 1, documents + 1, 1) if condensed else full
    if dataset.spec.horizon == 1 or terms > MOST_COMPARED:
        return STATELESS
    rows = some_sessions(dataset, FITTING_ROWS * MEMORY_TERMS // max(terms, MEMORY_TERMS))
    seen = rows.reward, rows.user, rows.clicked_features()
    if not all(np.isfinite(values).all() for values in seen):
        return STATELESS  # learners refuse such logs
    plain, by_step, asked = _held_out_losses(rows, NOTHING, DEGREES, condensed), False, rows
    if len(np.unique(rows.lengths)) > 1:
        timed = with_step(rows, ends=True)
        losses = _held_out_losses(timed, NOTHING, DEGREES, condensed)
        if by_step := better(plain, losses, BEYOND_CHANCE):
            plain, asked = losses, timed
    memories = product(TESTED_DECAYS, [True] if condensed else [False, True])
    found = (
        _held_out_losses(asked, SessionMemory(decays), DEGREES, few) for decays, few in memories
    )
    if not any(better(plain, losses, BEYOND_CHANCE) for losses in found):
        return SessionState(by_step=by_step)
    from scipy import optimize  # takes long to import

    best = optimize.minimize_scalar(
        lambda decay: _held_out_losses(
            rows, SessionMemory((float(decay),)), DEGREES[-1:], condensed
        ).sum(),
        bounds=(0.0, 0.99),
        method="bounded",
        options={"xatol": 0.005},
    )
    return SessionState((round(float(best.x), 3),))


def _held_out_losses(
    rows: Trajectories,
    memory: SessionMemory,
    degrees: tuple[int, ...],
    condensed: bool,
    random: bool = False,
) -> Array:
    """(V,) squared errors, over their variance, of regressions on the other half of the visitors.

    The regressions are of the reward of what was clicked, or of its logarithm where all rewards are
    positive, because watch times are skewed; and, where sessions differ in length, of whether a
    step is the last. The polynomial has the first degree that makes few enough terms.
    """
    clicked, reward = rows.clicked >= 0, rows.reward.astype(np.float64)
    if (reward[clicked] > 0).all():
        reward[clicked] = np.log(reward[clicked])
    targets = [(clicked, reward)]
    if len(np.unique(rows.lengths)) > 1:
        targets.append((np.ones(len(rows), np.bool_), rows.last.astype(np.float64)))
    user, item = _known(rows, memory, condensed)
    sizes = user.shape[1], item.shape[1]
    degree = next((one for one in degrees if term_count(*sizes, one) <= MEMORY_TERMS), 1)
    x = np.concatenate([user, item], axis=1)
    visitor = rows.visitors
    half, total = rows.halves == 0, np.zeros(visitor.max(initial=-1) + 1)
    for counted, target in targets:
        for out in (counted & half, counted & ~half):
            fitted = counted & ~out
            if not fitted.any() or not out.any():
                continue
            found = drawn(np.ones(x.shape[1], np.bool_)) if random else None
            kind = Kind(degree, logarithmic=False, random=found)
            model = RewardModel.fit(kind, x[fitted], target[fitted], user.shape[1])
            wrong = np.square(target[out] - model.expected(x[out])) / (target[fitted].var() or 1.0)
            total += np.bincount(visitor[out], np.maximum(wrong, LEAST_ERROR), len(total))
    return total


def _known(rows: Trajectories, memory: SessionMemory, condensed: bool) -> tuple[Array, Array]:
    """Features (R, …) of the user with the memory, and (R, …) of the clicked item.

    If `condensed`, the memory is reduced to the clicked item's part and the rewards.
    """
    user = memory.beside_users(rows).user.astype(np.float64)
    item = rows.clicked_features().astype(np.float64)
    if not memory.decays or not condensed:
        return user, item
    own, decays = rows.user.shape[1], len(memory.decays)
    known, sums, counts = np.split(user, [own, own + decays * (item.shape[1] + 1)], axis=1)
    sums = sums.reshape(len(rows), decays, -1)
    alike = np.einsum("rhd,rd->rh", sums[:, :, :-1], item)
    return np.concatenate([known, sums[:, :, -1], counts], axis=1), np.column_stack([item, alike])
