"""MovieLens from its files to padded batches: find, fetch, verify, parse, filter, split, batch.

Times in this package are in **seconds**. Ratings are pandas DataFrames with the columns `user_id`,
`item_id`, `rating`, `timestamp` in the file's own row order.
"""

from ss4rec_lib.data.batching import (
    Batch,
    Batches,
    carried_batches,
    check_target_time,
    eval_batches,
    make_batch,
    train_batches,
    typical_interval,
)
from ss4rec_lib.data.datasets import DATASETS, fetch, load_items, load_movielens, lookup
from ss4rec_lib.data.download import checkout
from ss4rec_lib.data.parsing import DataFile, read_ratings
from ss4rec_lib.data.planted import PlantedTruth, planted_ratings, planted_truth
from ss4rec_lib.data.rating_splits import (
    RatingTriples,
    held_out_ratings,
    k_fold,
    random_holdout,
    random_split,
    train_ratings,
)
from ss4rec_lib.data.sequences import ORDERINGS, Sequences, build_sequences, protocol_times
from ss4rec_lib.data.splits import (
    Split,
    global_time_split,
    k_core,
    leave_one_out,
)
from ss4rec_lib.data.validation import (
    COLUMNS,
    MILLISECONDS_FROM,
    DataError,
    DataWarning,
    InvalidRatingsError,
    NotEnoughInteractionsWarning,
    UnusablePathError,
    check_integer,
    validate_ratings,
)

__all__ = [
    "COLUMNS",
    "DATASETS",
    "MILLISECONDS_FROM",
    "ORDERINGS",
    "Batch",
    "Batches",
    "DataError",
    "DataFile",
    "DataWarning",
    "InvalidRatingsError",
    "NotEnoughInteractionsWarning",
    "PlantedTruth",
    "RatingTriples",
    "Sequences",
    "Split",
    "UnusablePathError",
    "build_sequences",
    "carried_batches",
    "check_integer",
    "check_target_time",
    "checkout",
    "eval_batches",
    "fetch",
    "global_time_split",
    "held_out_ratings",
    "k_core",
    "k_fold",
    "leave_one_out",
    "load_items",
    "load_movielens",
    "lookup",
    "make_batch",
    "planted_ratings",
    "planted_truth",
    "protocol_times",
    "random_holdout",
    "random_split",
    "read_ratings",
    "train_batches",
    "train_ratings",
    "typical_interval",
    "validate_ratings",
]
