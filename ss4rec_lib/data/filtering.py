"""The k-core filter: every user and every item left has at least k interactions.

Dropping a rare item may leave one of its users with too few interactions, and dropping that user
may make another item rare. The filter is therefore repeated until nothing changes; the result is
the largest sub-table in which all counts reach k, and it is unique. The published protocol is the
5-core ("5-core filter: 6,040 users, 3,416 items" on ML-1M).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ss4rec_lib.data.arguments import check_integer
from ss4rec_lib.data.errors import EmptyFilterError


def k_core(ratings: pd.DataFrame, k: int | None) -> pd.DataFrame:
    """Keep the users and items with at least `k` interactions, iterated to a fixed point.

    Interactions are counted as rows: somebody who rated one film at five different times has five.

    Args:
        ratings: table with `user_id` and `item_id` (integers >= 0); other columns are carried.
        k: the least number of interactions; None, 0 and 1 filter nothing.

    Returns:
        The rows left, in the order given, with a new RangeIndex and the same `.attrs`; `ratings`
        itself (not a copy) when nothing is dropped.

    Raises:
        ValueError: `k` is negative or not an integer.
        EmptyFilterError: nothing is left; the message gives the largest k that leaves something.
    """
    k = check_min_interactions(k, name="k")
    if k <= 1:
        return ratings
    user_ids, users = index_ids(ratings["user_id"].to_numpy())
    item_ids, items = index_ids(ratings["item_id"].to_numpy())
    keep = _core_rows(users, items, len(user_ids), len(item_ids), k)
    if keep is None:
        return ratings
    if len(keep) == 0:
        largest = _largest_k(users, items, len(user_ids), len(item_ids), k)
        raise EmptyFilterError(
            f"the {k}-core filter leaves nothing of {len(ratings)} rows ({len(user_ids)} users, "
            f"{len(item_ids)} items): no group of users and items has {k} interactions each. The "
            f"largest value that leaves something is {largest}; choose at most that, or None for "
            "no filter."
        )
    left = ratings.iloc[keep].reset_index(drop=True)
    left.attrs = dict(ratings.attrs)
    return left


def check_min_interactions(k: int | None, name: str = "min_interactions") -> int:
    """Return `k` as an int (None as 0).

    Args:
        k: an integer of at least 0, or None.
        name: the argument's name in the message.

    Returns:
        The least number of interactions, 0 for no filter.

    Raises:
        ValueError: `k` is anything else (True and 5.0 included).
    """
    if k is None:
        return 0
    return check_integer(name, k, 0, alternative="or None for no filter")


def index_ids(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number ids densely in ascending order, as `np.unique(..., return_inverse=True)` does.

    Args:
        ids: (n,) integers >= 0.

    Returns:
        The distinct ids ascending, int64 (m,); and for each entry its index among them,
        int32 (n,).
    """
    highest = int(ids.max()) if len(ids) else 0
    if highest < max(4 * len(ids), 1_000_000):
        # A table indexed by the id costs no sort and no 64-bit copy of 32 million rows.
        present = np.zeros(highest + 1, dtype=bool)
        present[ids] = True
        distinct = np.flatnonzero(present)
        rank = np.zeros(highest + 1, dtype=np.int32)
        rank[distinct] = np.arange(len(distinct), dtype=np.int32)
        return distinct, rank[ids]
    distinct, index = np.unique(ids, return_inverse=True)
    return distinct.astype(np.int64), index.astype(np.int32)


def _core_rows(
    users: np.ndarray, items: np.ndarray, n_users: int, n_items: int, k: int
) -> np.ndarray | None:
    """Row numbers of the k-core, ascending; None when every row stays."""
    rows = None
    while True:
        enough_user = np.bincount(users, minlength=n_users) >= k
        enough_item = np.bincount(items, minlength=n_items) >= k
        keep = enough_user[users]
        keep &= enough_item[items]
        if keep.all():
            return rows
        rows = np.flatnonzero(keep) if rows is None else rows[keep]
        users, items = users[keep], items[keep]


def _largest_k(
    users: np.ndarray, items: np.ndarray, n_users: int, n_items: int, failing: int
) -> int:
    """The largest k below `failing` whose core is not empty: a handful of peels by bisection."""
    low, high = 1, failing
    while high - low > 1:
        middle = (low + high) // 2
        rows = _core_rows(users, items, n_users, n_items, middle)
        if rows is not None and len(rows) == 0:
            high = middle
        else:
            low = middle
            if rows is not None:  # a larger core lies within a smaller one
                users, items = users[rows], items[rows]
    return low
