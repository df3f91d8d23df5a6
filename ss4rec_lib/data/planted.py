"""Generated ratings that follow a known rule, so that the best possible model is known.

If the next film comes within an hour, it is the current film's sequel (`short[film]`), otherwise
its revival (`long[film]`); with probability epsilon it is any film at all. Intervals are drawn
independently, so that only the interval itself tells which of the two it is.

Intervals look like MovieLens': many ties (0 s), seconds to minutes within a sitting, days to months
between sittings. The file is grouped by user and not sorted by time. Among tied rows the file order
*is* the order of the rule: only `exact-time` recovers the rule fully.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ss4rec_lib.data.validation import COLUMNS, check_integer

THRESHOLD = 3600  # seconds: intervals up to this lead to the sequel, longer ones to the revival
EPSILON = 0.1  # default probability that the next film is any film at all
SHARE_TIED = 0.4  # share of intervals of 0 s
SHARE_SITTING = 0.3  # share of intervals of 1 s to an hour; the rest are a day to half a year

_DAY = 86_400
_FIRST_START = 978_307_200  # 2001-01-01 UTC
_SHORTEST = 5
_GENRES = ("Action", "Comedy", "Drama", "Horror", "Musical", "Romance", "Sci-Fi", "Thriller")


@dataclass(frozen=True, eq=False)
class PlantedTruth:
    """The rule that the generated ratings follow."""

    short: np.ndarray  # (n_items + 1,) int64, the sequel of each item id; entry 0 is 0
    long: np.ndarray  # (n_items + 1,) int64, its revival, neither the film nor its sequel
    epsilon: float  # probability that the next film is drawn uniformly from all films instead
    threshold: int = THRESHOLD  # seconds; intervals up to this lead to the sequel
    share_within: float = SHARE_TIED + SHARE_SITTING  # probability of an interval up to that

    @property
    def n_items(self) -> int:
        """Return the number of films; their ids are 1..n_items."""
        return len(self.short) - 1

    def successor(self, item_ids: np.ndarray, intervals: np.ndarray) -> np.ndarray:
        """Return the films that the rule names for film ids and seconds to the next one."""
        within = np.asarray(intervals) <= self.threshold
        return np.where(within, self.short[item_ids], self.long[item_ids])

    def best_hit_rate(self, k: int, interval_known: bool = True) -> float:
        """Return the highest HR@k (k from 1 to n_items) that any model can reach in expectation.

        `interval_known` says whether the model receives the time to the target.
        """
        return float(self._rank_probabilities(k, interval_known).sum())

    def best_ndcg(self, k: int, interval_known: bool = True) -> float:
        """Return the highest NDCG@k that any model can reach in expectation."""
        probabilities = self._rank_probabilities(k, interval_known)
        return float((probabilities / np.log2(np.arange(2, k + 2))).sum())

    def _rank_probabilities(self, k: int, interval_known: bool) -> np.ndarray:
        """Return (k,) probabilities that the target is at rank 1..k of the best possible list.

        Every film has probability epsilon / n. The rest goes to the film that the rule names or,
        when the interval is unknown, to two films in the proportion of `share_within`. That no film
        occurs twice in the same second is left out: below one in a thousand by default.
        """
        k = check_integer("k", k, 1, self.n_items)
        likely = [1.0] if interval_known else [self.share_within, 1.0 - self.share_within]
        probabilities = np.full(k, self.epsilon / self.n_items)
        named = sorted(likely, reverse=True)[:k]
        probabilities[: len(named)] += (1.0 - self.epsilon) * np.array(named)
        return probabilities


def planted_truth(n_items: int = 200, seed: int = 0, epsilon: float = EPSILON) -> PlantedTruth:
    """Return the rule that `planted_ratings` follows when given the same arguments."""
    n_items = check_integer("n_items", n_items, 3)
    if isinstance(epsilon, bool) or not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon={epsilon!r}: expected a probability from 0 to 1.")
    rng = np.random.default_rng([check_integer("seed", seed, 0), 1])
    # One single cycle: a run of tied sequels does not repeat a film within n_items steps.
    cycle = rng.permutation(n_items) + 1
    short, long = np.zeros((2, n_items + 1), dtype=np.int64)
    short[cycle] = np.roll(cycle, -1)
    films = np.arange(1, n_items + 1)
    while True:  # about one permutation in seven will do
        long[1:] = rng.permutation(films)
        if not ((long[1:] == films) | (long[1:] == short[1:])).any():
            break
    return PlantedTruth(short=short, long=long, epsilon=float(epsilon))


def planted_ratings(
    n_users: int = 600,
    n_items: int = 200,
    mean_length: float = 60,
    seed: int = 0,
    epsilon: float = EPSILON,
) -> pd.DataFrame:
    """Generate ratings that follow the rule of `planted_truth(n_items, seed, epsilon)`.

    Where a user would rate a film twice in the same second, the second rating comes one second
    later. Ids run from 1; `mean_length`, the expected ratings of a user, is above 5 (the shortest
    history). The moments of a user are shuffled. Ratings are 1 to 5, independent of everything.
    """
    n_users = check_integer("n_users", n_users, 1)
    if isinstance(mean_length, bool) or not _SHORTEST < mean_length < np.inf:
        raise ValueError(f"mean_length={mean_length!r}: expected a number above {_SHORTEST}.")
    truth = planted_truth(n_items, seed, epsilon)
    rng = np.random.default_rng([seed, 0])
    lengths = _SHORTEST - 1 + rng.geometric(1 / (mean_length - _SHORTEST + 1), size=n_users)
    users = np.repeat(np.arange(1, n_users + 1), lengths)
    first = np.cumsum(lengths) - lengths  # row of each user's first rating
    gaps = _intervals(rng, len(users))  # gaps[j]: seconds from the row before to row j
    gaps[first] = _FIRST_START + rng.integers(0, 2 * 365 * _DAY, size=n_users)
    items = rng.integers(1, n_items + 1, size=len(gaps))  # what epsilon would choose
    any_film = rng.random(len(gaps)) < truth.epsilon
    for step in range(1, int(lengths.max())):  # one step of all users at a time
        rows = first[lengths > step] + step
        named = truth.successor(items[rows - 1], gaps[rows])
        items[rows] = np.where(any_film[rows], items[rows], named)
    times = _times(gaps, first, lengths)
    again = pd.DataFrame({"u": users, "i": items, "t": times}).duplicated().to_numpy()
    gaps[again] = 1
    times = _times(gaps, first, lengths)

    # File order: the moments of each user shuffled, rows of one moment left as they are.
    moment = np.cumsum((np.diff(users, prepend=1) != 0) | (np.diff(times, prepend=times[0]) != 0))
    order = np.lexsort((rng.permutation(moment[-1] + 1)[moment], users))
    stars = rng.choice(np.arange(1, 6), size=len(users), p=[0.06, 0.11, 0.26, 0.35, 0.22])
    columns = (users[order], items[order], stars, times[order])
    ratings = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
    ratings = ratings.astype({"user_id": np.int32, "item_id": np.int32, "rating": np.float32})
    source = f"generated by planted_ratings with seed {seed}"
    ratings.attrs = {"dataset": "planted", "source": source, "verified": True}
    ratings.attrs["licence"] = "none needed: generated"
    return ratings


def planted_items(n_items: int = 200, seed: int = 0) -> pd.DataFrame:
    """Return titles, years and genres for the planted films; they carry no information."""
    n_items = check_integer("n_items", n_items, 3)
    rng = np.random.default_rng([check_integer("seed", seed, 0), 2])
    ids = pd.RangeIndex(1, n_items + 1, name="item_id").astype("int32")
    counts = rng.integers(1, 4, size=n_items)
    genres = [sorted(rng.choice(_GENRES, size=n, replace=False).tolist()) for n in counts]
    years = pd.array(rng.integers(1950, 2001, size=n_items), dtype="Int64")
    columns = {"title": [f"Planted Film {i}" for i in ids], "year": years, "genres": genres}
    return pd.DataFrame(columns, index=ids)


def _intervals(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw (n,) int64 seconds from the mixture of ties, sittings and breaks."""
    kind = rng.random(n)
    sitting = np.clip(np.exp(rng.normal(np.log(30), 1.3, size=n)), 1, THRESHOLD)
    away = np.minimum(_DAY * (1 + rng.pareto(0.8, size=n)), 180 * _DAY)
    gaps = np.where(kind < SHARE_TIED + SHARE_SITTING, sitting, away)
    return np.where(kind < SHARE_TIED, 0, gaps).astype(np.int64)


def _times(gaps: np.ndarray, first: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return (n,) int64 running sums of the gaps, begun anew for each user."""
    total = np.cumsum(gaps)
    return total - np.repeat(total[first] - gaps[first], lengths)
