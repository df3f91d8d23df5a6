from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from ss4rec_lib.data.batching import Batch, eval_batches, make_batch, train_batches
from ss4rec_lib.data.sequences import ORDERINGS
from ss4rec_lib.data.splits import leave_one_out
from ss4rec_lib.data.validation import DataError

BASE = 1_000_000_000
pytestmark = pytest.mark.filterwarnings("ignore::ss4rec_lib.data.NotEnoughInteractionsWarning")


def table_of(lengths, seed=0):
    """Users of the given lengths; every interaction is an item of its own, so it can be told."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(len(lengths)), lengths)
    table = pd.DataFrame(
        {
            "user_id": users,
            "item_id": rng.permutation(len(users)),
            "rating": 1.0,
            "timestamp": BASE + rng.choice([0, 1, 90, 70_000_000], size=len(users)),
        }
    )
    return table.sample(frac=1, random_state=seed)


def reference(table, ordering):
    """{user: [(item, time), ...]}, ordered with nothing but sorted()."""
    histories = {}
    for row, record in enumerate(table.itertuples(index=False)):
        time = record.timestamp
        if ordering == "recbole-float32":
            time = int(np.float32(time))
        histories.setdefault(record.user_id, []).append((time, row, record.item_id))
    return {
        user: [(item, time) for time, _, item in sorted(rows)] for user, rows in histories.items()
    }


lengths_of_users = st.lists(st.integers(1, 15), min_size=1, max_size=8)
budgets = st.integers(1, 40)
lengths_of_windows = st.one_of(st.none(), st.integers(1, 12))


def check_padding(batch):
    """Right-padded with 0, as long as the longest row, and of the promised types."""
    n_rows, length = batch.items.shape
    assert batch.lengths.max() == length
    padding = torch.arange(length) >= batch.lengths[:, None]
    assert (batch.items[padding] == 0).all()
    assert (batch.delta[padding] == 0).all()
    assert (batch.targets[padding] == 0).all()
    assert (batch.items[~padding] > 0).all()
    assert batch.n_targets == int((batch.targets != 0).sum())
    assert batch.items.dtype == batch.targets.dtype == torch.int64
    assert batch.lengths.dtype == batch.users.dtype == torch.int64
    assert batch.delta.dtype == torch.float32
    assert batch.delta.shape == batch.targets.shape == (n_rows, length)
    assert batch.lengths.shape == batch.users.shape == batch.starts.shape == (n_rows,)
    assert batch.positions.tolist() == (batch.targets.flatten() > 0).nonzero()[:, 0].tolist()
    assert (batch.ratings[padding] == 0).all()
    assert (batch.target_ratings.isnan() == (batch.targets == 0)).all()


def check_rows(batch, split, histories):
    """Every row is a stretch of its user's history; yields (user, index of its first input)."""
    original = split.sequences.item_ids
    for row in range(len(batch.users)):
        n = int(batch.lengths[row])
        user = int(split.sequences.user_ids[batch.users[row]])
        history = histories[user]
        inputs = original[batch.items[row, :n].numpy()].tolist()
        begin = [item for item, _ in history].index(inputs[0])
        assert split.sequences.offsets[batch.users[row]] + begin == batch.starts[row]
        assert inputs == [item for item, _ in history[begin : begin + n]]
        deltas = [np.float32(history[j + 1][1] - history[j][1]) for j in range(begin, begin + n)]
        assert batch.delta[row, :n].tolist() == deltas
        yield row, n, user, begin, history


@pytest.mark.parametrize("ordering", ORDERINGS)
@given(lengths_of_users, budgets, lengths_of_windows, st.integers(0, 3), st.booleans())
def test_an_epoch_predicts_every_training_target_once(
    ordering, lengths, max_tokens, max_len, epoch, shuffle
):
    assume(max(lengths) >= 4)
    table = table_of(lengths)
    split = leave_one_out(table, ordering=ordering, min_interactions=None)
    histories = reference(table, ordering)
    batches = train_batches(
        split, max_tokens=max_tokens, max_len=max_len, seed=1, epoch=epoch, shuffle=shuffle
    )
    predicted = Counter()
    tokens = inputs = n_batches = 0
    windows = {}
    for batch in batches:
        check_padding(batch)
        n_batches += 1
        tokens += batch.items.numel()
        inputs += int(batch.lengths.sum())
        assert batch.items.numel() <= max_tokens or len(batch.items) == 1
        for row, n, user, begin, history in check_rows(batch, split, histories):
            targets = split.sequences.item_ids[batch.targets[row, :n].numpy()].tolist()
            assert targets == [item for item, _ in history[begin + 1 : begin + n + 1]]
            predicted.update(targets)
            windows.setdefault(user, []).append((begin, n))
    expected = Counter()
    for history in histories.values():
        train = history[:-2] if len(history) >= 3 else history
        expected.update(item for item, _ in train[1:])
    assert predicted == expected
    assert batches.n_targets == sum(expected.values())
    assert len(batches) == n_batches
    assert batches.padding_share == pytest.approx(1 - inputs / tokens)
    for pieces in windows.values():
        sizes = [n for _, n in sorted(pieces)]
        if max_len is None:
            assert len(sizes) == 1
        else:
            # Only the first and the last window may be shorter than the limit.
            assert max(sizes) <= max_len
            assert all(n == max_len for n in sizes[1:-1])
            if sum(sizes) <= max_len:
                assert len(sizes) == 1


@pytest.mark.parametrize("ordering", ORDERINGS)
@pytest.mark.parametrize("part", ["valid", "test"])
@given(lengths_of_users, budgets, lengths_of_windows)
def test_evaluation_has_every_target_once_behind_its_history(
    part, ordering, lengths, max_tokens, max_len
):
    assume(max(lengths) >= 3)
    table = table_of(lengths)
    split = leave_one_out(table, ordering=ordering, min_interactions=None)
    histories = reference(table, ordering)
    held_back = {"valid": 2, "test": 1}[part]
    batches = eval_batches(split, part, max_tokens=max_tokens, max_len=max_len)
    found = {}
    sizes = []
    for batch in batches:
        check_padding(batch)
        assert batch.items.numel() <= max_tokens or len(batch.items) == 1
        assert batch.n_targets == len(batch.users)
        for row, n, user, begin, history in check_rows(batch, split, histories):
            position = len(history) - held_back
            assert begin + n == position
            assert n == position if max_len is None else n == min(position, max_len)
            assert (batch.targets[row, : n - 1] == 0).all()
            assert user not in found
            found[user] = int(split.sequences.item_ids[batch.targets[row, n - 1]])
            sizes.append(n)
    assert found == {
        user: history[-held_back][0] for user, history in histories.items() if len(history) >= 3
    }
    assert sizes == sorted(sizes, reverse=True)
    assert batches.n_targets == len(found)


def contents(batches):
    return [
        [t.tolist() for t in (b.items, b.delta, b.targets, b.lengths, b.users)] for b in batches
    ]


@pytest.fixture(scope="module")
def split():
    return leave_one_out(table_of([60, 45, 30, 9, 9, 8, 8, 7, 6]), min_interactions=None)


def test_the_same_seed_and_epoch_give_the_same_batches(split):
    arguments = {"max_tokens": 30, "max_len": 10, "seed": 5, "epoch": 2}
    batches = train_batches(split, **arguments)
    first = contents(batches)
    assert contents(batches) == first
    np.random.seed(0)  # noqa: NPY002  the global generators must not matter
    torch.manual_seed(0)
    assert contents(train_batches(split, **arguments)) == first


def windows(batches):
    return {(int(b.users[r]), *b.items[r].tolist()) for b in batches for r in range(len(b.users))}


@pytest.mark.parametrize("change", [{"seed": 6}, {"epoch": 3}])
def test_another_seed_or_epoch_cuts_elsewhere(split, change):
    arguments = {"max_tokens": 30, "max_len": 10, "seed": 5, "epoch": 2}
    assert windows(train_batches(split, **arguments)) != windows(
        train_batches(split, **{**arguments, **change})
    )


def test_seed_and_epoch_are_not_interchangeable(split):
    def drawn(seed, epoch):
        return contents(train_batches(split, max_tokens=30, max_len=10, seed=seed, epoch=epoch))

    assert drawn(1, 2) != drawn(2, 1)


def test_each_offset_is_drawn(split):
    """Over many epochs the first window of a long history takes every length up to max_len."""
    longest = int(np.argmax(split.train_end))
    first_item = int(split.sequences.history(longest).items[0])
    seen = set()
    for epoch in range(60):
        for batch in train_batches(split, max_len=5, epoch=epoch):
            begins = (batch.users == longest) & (batch.items[:, 0] == first_item)
            seen.update(batch.lengths[begins].tolist())
    assert seen == {1, 2, 3, 4, 5}


def test_without_shuffling_seed_and_epoch_do_not_matter(split):
    def plain(**arguments):
        return contents(train_batches(split, max_len=7, shuffle=False, **arguments))

    assert plain(seed=0, epoch=0) == plain(seed=1, epoch=9)


def test_the_order_of_batches_is_shuffled(split):
    lengths = [b.items.shape[1] for b in train_batches(split, max_tokens=20, max_len=None)]
    assert lengths != sorted(lengths, reverse=True)
    plain = train_batches(split, max_tokens=20, max_len=None, shuffle=False)
    lengths = [b.items.shape[1] for b in plain]
    assert lengths == sorted(lengths, reverse=True)


def test_similar_lengths_share_a_batch():
    split = leave_one_out(table_of([53] * 4 + [8] * 20), min_interactions=None)
    assert train_batches(split, max_tokens=200, max_len=None).padding_share == 0


def test_intervals_do_not_lose_seconds_near_1e9():
    table = table_of([4])
    table["timestamp"] = [BASE + 3, BASE + 1, BASE + 8, BASE + 7]
    split = leave_one_out(table, min_interactions=None)
    (batch,) = eval_batches(split, "test")
    assert batch.delta.tolist() == [[2.0, 4.0, 1.0]]


def test_a_batch_moves_to_a_device(split):
    batch = next(iter(train_batches(split)))
    moved = batch.to("meta")
    for name, tensor in vars(batch).items():
        if name != "carried":
            assert getattr(moved, name).device.type == "meta"
            assert getattr(moved, name).shape == tensor.shape
    assert moved.n_targets == batch.n_targets


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 3200.0),
        ("max_tokens", None),
        ("max_len", 0),
        ("max_len", -1),
        ("max_len", "200"),
        ("seed", -1),
        ("seed", None),
        ("epoch", -1),
        ("epoch", True),
    ],
)
def test_arguments_out_of_range_are_refused(split, name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        train_batches(split, **{name: value})
    if name.startswith("max"):
        with pytest.raises(ValueError, match=f"{name}={value!r}"):
            eval_batches(split, "test", **{name: value})


def test_unknown_part_is_refused(split):
    with pytest.raises(ValueError, match="part='train'"):
        eval_batches(split, "train")


def test_nothing_to_train_on_is_an_error():
    split = leave_one_out(table_of([3, 3, 1]), min_interactions=None)
    with pytest.raises(DataError, match=r"train_batches.*3 users"):
        train_batches(split)


def test_a_batch_of_ones_own_is_padded_and_complete():
    batch = make_batch(
        [[3, 1, 2], [2, 0, 0]], [[5, 6, 7], [8, 9, 9]], 3,
        targets=[[1, 2, 3], [3, 0, 0]], ratings=[[1, 2, 3], [4, 5, 5]], users=[7, 4],
    )  # fmt: skip
    assert batch.lengths.tolist() == [3, 1] and batch.users.tolist() == [7, 4]
    assert batch.delta.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch.ratings.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert batch.positions.tolist() == [0, 1, 2, 3] and batch.n_targets == 4
    assert batch.target_ratings.isnan().all() and batch.starts.tolist() == [0, 0]
    plain = make_batch([[3, 1]], [[0.5, 0.0]], 3)
    assert plain.n_targets == 0 and plain.users.tolist() == [0]


def test_a_batch_made_again_from_its_values_is_the_same(split):
    for batch in train_batches(split, max_tokens=40, max_len=10):
        again = make_batch(
            batch.items, batch.delta, split.sequences.n_items, batch.targets, batch.ratings,
            batch.target_ratings, batch.users, batch.starts,
        )  # fmt: skip
        for name, tensor in vars(batch).items():
            if name != "carried":
                torch.testing.assert_close(
                    getattr(again, name), tensor, rtol=0, atol=0, equal_nan=True
                )


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({"items": [[4, 1], [1, 0]]}, "items", "4"),
        ({"items": [[-1, 1], [1, 0]]}, "items", "-1"),
        ({"items": [[0, 1], [1, 0]]}, "items", "0"),
        ({"items": [[2, 1], [0, 0]]}, "items", "0"),
        ({"items": [[2.0, 1.0], [1.0, 0.0]]}, "items", "float"),
        ({"items": [2, 1]}, "items", "2"),
        ({"delta": [[1, -2], [1, 0]]}, "delta", "-2"),
        ({"delta": [[1, float("inf")], [1, 0]]}, "delta", "inf"),
        ({"delta": [[float("nan"), 1], [1, 0]]}, "delta", "nan"),
        ({"delta": [[1], [1]]}, "delta", "(2, 1)"),
        ({"targets": [[1, 9], [1, 0]]}, "targets", "9"),
        ({"targets": [[1, 1], [1, 2]]}, "targets", "2"),
        ({"ratings": [[1, 1], [float("nan"), 2]]}, "ratings", "nan"),
        ({"users": [1, 2, 3]}, "users", "(3,)"),
        ({"users": [True, False]}, "users", "bool"),
    ],
)
def test_values_no_batch_may_hold_are_refused(change, name, value):
    usable = {"items": [[2, 1], [1, 0]], "delta": [[1, 2], [3, 0]], "n_items": 3}
    with pytest.raises(ValueError) as caught:
        make_batch(**{**usable, **change})
    assert name in str(caught.value) and value in str(caught.value)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("delta", torch.zeros(1, 2, dtype=torch.float64)),
        ("targets", torch.zeros(1, 3, dtype=torch.int64)),
        ("lengths", torch.ones(2, dtype=torch.int64)),
        ("positions", torch.zeros(1, 1, dtype=torch.int64)),
    ],
)
def test_a_tensor_of_another_shape_or_type_is_refused(name, wrong):
    tensors = dict(vars(make_batch([[1, 2]], [[1, 2]], 2)))
    with pytest.raises(ValueError) as caught:
        Batch(**{**tensors, name: wrong})
    assert name in str(caught.value)
