"""MovieLens from its files to padded batches: find, fetch, verify, parse, filter, split, batch.

Times in this package are in **seconds**. Ratings are pandas DataFrames with the columns `user_id`,
`item_id`, `rating`, `timestamp` in the file's own row order.
"""

from ss4rec_lib.data.batching import Batch as Batch
from ss4rec_lib.data.batching import Batches as Batches
from ss4rec_lib.data.batching import carried_batches as carried_batches
from ss4rec_lib.data.batching import check_target_time as check_target_time
from ss4rec_lib.data.batching import eval_batches as eval_batches
from ss4rec_lib.data.batching import make_batch as make_batch
from ss4rec_lib.data.batching import train_batches as train_batches
from ss4rec_lib.data.batching import typical_interval as typical_interval
from ss4rec_lib.data.datasets import DATASETS as DATASETS
from ss4rec_lib.data.datasets import dataset_name as dataset_name
from ss4rec_lib.data.datasets import fetch as fetch
from ss4rec_lib.data.datasets import find_local as find_local
from ss4rec_lib.data.datasets import is_path as is_path
from ss4rec_lib.data.datasets import load_dataset as load_dataset
from ss4rec_lib.data.datasets import load_items as load_items
from ss4rec_lib.data.datasets import load_movielens as load_movielens
from ss4rec_lib.data.datasets import lookup as lookup
from ss4rec_lib.data.download import checkout as checkout
from ss4rec_lib.data.own import DatasetDescription as DatasetDescription
from ss4rec_lib.data.parsing import DataFile as DataFile
from ss4rec_lib.data.parsing import read_ratings as read_ratings
from ss4rec_lib.data.planted import PlantedTruth as PlantedTruth
from ss4rec_lib.data.planted import planted_ratings as planted_ratings
from ss4rec_lib.data.planted import planted_truth as planted_truth
from ss4rec_lib.data.rating_splits import RatingTriples as RatingTriples
from ss4rec_lib.data.rating_splits import held_out_ratings as held_out_ratings
from ss4rec_lib.data.rating_splits import k_fold as k_fold
from ss4rec_lib.data.rating_splits import random_holdout as random_holdout
from ss4rec_lib.data.rating_splits import random_split as random_split
from ss4rec_lib.data.rating_splits import train_ratings as train_ratings
from ss4rec_lib.data.sequences import ORDERINGS as ORDERINGS
from ss4rec_lib.data.sequences import Sequences as Sequences
from ss4rec_lib.data.sequences import build_sequences as build_sequences
from ss4rec_lib.data.sequences import protocol_times as protocol_times
from ss4rec_lib.data.splits import Split as Split
from ss4rec_lib.data.splits import global_time_split as global_time_split
from ss4rec_lib.data.splits import k_core as k_core
from ss4rec_lib.data.splits import leave_one_out as leave_one_out
from ss4rec_lib.data.validation import COLUMNS as COLUMNS
from ss4rec_lib.data.validation import MILLISECONDS_FROM as MILLISECONDS_FROM
from ss4rec_lib.data.validation import DataError as DataError
from ss4rec_lib.data.validation import DataWarning as DataWarning
from ss4rec_lib.data.validation import InvalidRatingsError as InvalidRatingsError
from ss4rec_lib.data.validation import NotEnoughInteractionsWarning as NotEnoughInteractionsWarning
from ss4rec_lib.data.validation import UnusablePathError as UnusablePathError
from ss4rec_lib.data.validation import check_integer as check_integer
from ss4rec_lib.data.validation import validate_ratings as validate_ratings
