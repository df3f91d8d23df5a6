"""MovieLens from its files to padded batches: find, fetch, verify, parse, filter, split, batch.

Everything that leaves this package speaks of time in **seconds**. Ratings are pandas DataFrames
with the columns `user_id`, `item_id`, `rating`, `timestamp` in the file's own row order.
"""

from ss4rec_lib.data.batch import Batch, make_batch
from ss4rec_lib.data.batching import (
    TARGET_TIMES,
    Batches,
    carried_batches,
    check_target_time,
    eval_batches,
    train_batches,
    typical_interval,
)
from ss4rec_lib.data.errors import DataError, DataWarning
from ss4rec_lib.data.filtering import k_core
from ss4rec_lib.data.movielens import DATASETS, cache_dir, fetch, load_items, load_movielens
from ss4rec_lib.data.planted import planted_ratings
from ss4rec_lib.data.rating_splits import (
    held_out_ratings,
    k_fold,
    random_holdout,
    random_split,
    train_ratings,
)
from ss4rec_lib.data.recbole import read_recbole, recbole_config, write_recbole
from ss4rec_lib.data.sequences import ORDERINGS, Sequences, build_sequences
from ss4rec_lib.data.splits import Split, global_time_split, leave_one_out
from ss4rec_lib.data.validation import validate_ratings

from ss4rec_lib.data.errors import NotEnoughInteractionsWarning
from ss4rec_lib.data.catalogue import lookup
from ss4rec_lib.data.arguments import check_integer
from ss4rec_lib.data.planted import PlantedTruth, planted_truth
from ss4rec_lib.data.rating_splits import RatingTriples
from ss4rec_lib.data.filtering import check_min_interactions
from ss4rec_lib.data.ordering import protocol_times
from ss4rec_lib.data.validation import MILLISECONDS_FROM
from ss4rec_lib.data.cache import checkout

__all__ = [
    "Batches",
    "MILLISECONDS_FROM",
    "NotEnoughInteractionsWarning",
    "PlantedTruth",
    "RatingTriples",
    "check_integer",
    "check_min_interactions",
    "check_target_time",
    "checkout",
    "lookup",
    "planted_truth",
    "protocol_times",
    "DATASETS",
    "ORDERINGS",
    "TARGET_TIMES",
    "Batch",
    "DataError",
    "DataWarning",
    "Sequences",
    "Split",
    "build_sequences",
    "cache_dir",
    "carried_batches",
    "eval_batches",
    "fetch",
    "global_time_split",
    "held_out_ratings",
    "k_core",
    "k_fold",
    "leave_one_out",
    "load_items",
    "load_movielens",
    "make_batch",
    "planted_ratings",
    "random_holdout",
    "random_split",
    "read_recbole",
    "recbole_config",
    "train_batches",
    "train_ratings",
    "typical_interval",
    "validate_ratings",
    "write_recbole",
]
