"""A check that weights agree with probabilities at all values of the user's columns.

Propensities that ignore the user, though the logging policy did not, or belong to other rows of the
same item, have the right mean item by item. The same holds for columns that are known only after
the decision, such as how long the user looked at the item: a model of rewards treats them as known
before. In both cases weights and probabilities differ where such a column is high, or low.

Weights may also be too small because the rarest items have not been shown yet, and the logs do not
show how rare these are for some users. So only weights that are too large count. Nothing is lost by
that: where propensities are wrong, some weights are too small and others too large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.overlap import ItemBalance, Unbalanced
from slateflow.shared_rows import at_rows, distinct, for_rows

Array = NDArray[np.float64]

QUARTERS = 4
"""Groups of users by the values of a column, as equal in size as these values allow."""

PARTS = ((0, 1), (1, 2), (2, 3), (3, 4), (0, 2), (2, 4))
"""Quarters and halves, each as its first quarter and the quarter after its last."""

MOST_COLUMNS, MOST_CELLS = 100, 2_000_000
"""Most columns that are checked, those with the most even groups, and most cells of tables."""

MOST_PROBABILITIES = 100_000_000
"""Most probabilities that are examined for one target, over all columns."""

ADVICE = (
    "check that the propensities allow for all that decided, and that this column is known before "
    "the decision"
)
"""Advice where a column has impossible weights."""


@dataclass(frozen=True)
class ColumnGroups:
    """Groups of users, by the quarters of C of their columns.

    Attributes:
        names: Names of these columns.
        columns: (C,) their places among all.
        edges: (3, C) values between the groups; a group's values exceed its lower edge.
        items: M, items of the catalogue; without a catalogue nothing is checked.
        every: Every `every`-th row is checked.
    """

    names: tuple[str, ...]
    columns: NDArray[np.intp]
    edges: Array
    items: int
    every: int

    @classmethod
    def of(
        cls, names: Sequence[str], user: NDArray[np.floating], items: int, rows: int, offered: int
    ) -> Self:
        """Cut the columns of sampled users (S, U); `rows` rows have `offered` items each."""
        if not items or not user.size:
            return cls((), np.zeros(0, np.intp), np.zeros((3, 0)), items, 1)
        edges = np.quantile(user, (0.25, 0.5, 0.75), axis=0)
        edges = np.where(edges < user.max(axis=0), edges, user.min(axis=0))
        least = (user[None] > edges[:, None]).mean(axis=1)  # (3, U)
        smaller = np.minimum(least, 1 - least).max(axis=0)
        most = min(MOST_COLUMNS, MOST_CELLS // (QUARTERS * items))
        chosen = np.argsort(-smaller, kind="stable")[:most]
        chosen = np.sort(chosen[smaller[chosen] > 0])
        every = -(-rows * offered * len(chosen) // MOST_PROBABILITIES) or 1
        named = tuple(names[column] for column in chosen)
        return cls(named, chosen, edges[:, chosen], items, every)

    @property
    def empty(self) -> tuple[ItemBalance, ...]:
        """Balances of no rows."""
        return (ItemBalance.none(QUARTERS * self.items),) * len(self.names)

    def add(
        self,
        balances: tuple[ItemBalance, ...],
        user: NDArray[np.floating],
        offered: NDArray[Any],
        shown: NDArray[Any],
        probability: Array,
        factor: Array,
    ) -> tuple[ItemBalance, ...]:
        """The balances with B further rows; see `ItemBalance.of`."""
        group = (user[:, self.columns, None] > self.edges.T).sum(axis=2)
        return tuple(
            sum(
                (
                    ItemBalance.of(
                        _numbered(at_rows(offered, own), number * self.items),
                        shown[own],
                        probability[own],
                        factor[own],
                        ItemBalance.none(QUARTERS * self.items),
                    )
                    for number in range(QUARTERS)
                    if (own := group[:, column] == number).any()
                ),
                start=balance,
            )
            for column, balance in enumerate(balances)
        )

    def worst(
        self, balances: tuple[ItemBalance, ...], kept: float, items: Sequence[str] | None
    ) -> Unbalanced | None:
        """The largest impossible excess of weights, of an item or all items, in a column's part.

        Args:
            balances: Balances of the columns.
            kept: Rows that one draw decided, see `ItemBalance.kept`.
            items: Ids of the items; None for their numbers.
        """
        apart = []
        for column, balance in enumerate(balances):
            found = self._all_cells(balance).worst(kept, len(balances), above=True)
            apart += [] if found is None else [(column, *found)]
        if not apart:
            return None
        column, cell, weight, expected = max(apart, key=lambda one: abs(one[2] - one[3]))
        part, item = divmod(cell, self.items + 1)
        name = str(item) if items is None else (*items, "")[item]
        where = f"where {self.names[column]} is {self._named(column, part)}"
        if item < self.items:
            where = f"item {name}, {where},"
        return Unbalanced(where, weight, expected, ADVICE)

    def _named(self, column: int, part: int) -> str:
        """The values of a column in a part, see `PARTS`."""
        low, high = PARTS[part]
        edges = self.edges[:, column]
        above = f"above {edges[low - 1]:.4g}" if low else ""
        most = f"at most {edges[high - 1]:.4g}" if high < QUARTERS else ""
        if low and high < QUARTERS and edges[low - 1] == edges[high - 1]:
            most = ""  # no value lies between the two
        return " and ".join(one for one in (above, most) if one)

    def _all_cells(self, balance: ItemBalance) -> ItemBalance:
        """The balances of each part's items, and of all items together.

        The rarest row and the likeliest choice of each item are those of all users: a group has too
        few rows to show how rare an item can be.
        """

        def of_parts(values: Array) -> Array:
            cells = values.reshape(QUARTERS, self.items)
            cells = np.append(cells, cells.sum(axis=1, keepdims=True), axis=1)
            return np.concatenate([cells[low:high].sum(axis=0) for low, high in PARTS])

        def of_all(values: Array) -> Array:
            each = values.reshape(QUARTERS, self.items).max(axis=0)
            return np.tile(np.append(each, each.max()), len(PARTS))

        return replace(
            balance,
            weights=of_parts(balance.weights),
            expected=of_parts(balance.expected),
            squares=of_parts(balance.squares),
            likeliest=of_all(balance.likeliest),
            rarest=of_all(balance.rarest),
        )


def _numbered(offered: NDArray[Any], first: int) -> NDArray[Any]:
    """The items' numbers plus `first`."""
    return for_rows(distinct(offered) + first, len(offered))
