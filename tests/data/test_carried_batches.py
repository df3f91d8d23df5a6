"""Whole histories in pieces: nothing is lost, nothing comes twice, rows go on where they ended."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ss4rec_lib.data import carried_batches, eval_batches, leave_one_out, planted_ratings

from ss4rec_lib.data import train_batches, typical_interval  # isort: skip


@pytest.fixture(scope="module")
def split():
    return leave_one_out(planted_ratings(n_users=70, n_items=40, mean_length=40, seed=5))


def rows_of(batches):
    """For each user the pieces in the order in which they come."""
    pieces = {}
    for batch in batches:
        for row, user in enumerate(batch.users.tolist()):
            n = int(batch.lengths[row])
            pieces.setdefault(user, []).append(
                (batch.items[row, :n], batch.delta[row, :n], batch.targets[row, :n])
            )
    return pieces


@settings(max_examples=25)
@given(
    max_len=st.integers(1, 60), max_tokens=st.integers(1, 900), seed=st.integers(0, 9),
    epoch=st.integers(0, 3),
)  # fmt: skip
def test_the_pieces_of_a_user_are_the_history(split, max_len, max_tokens, seed, epoch):
    batches = carried_batches(split, max_tokens, max_len, seed, epoch)
    whole = rows_of(train_batches(split, max_len=None, shuffle=False))
    pieces = rows_of(batches)
    assert pieces.keys() == whole.keys()
    for user, found in pieces.items():
        for i in range(3):
            assert torch.equal(torch.cat([piece[i] for piece in found]), whole[user][0][i])
    assert sum(batch.n_targets for batch in batches) == batches.n_targets
    assert all(batch.items.shape[1] <= max_len for batch in batches)
    assert all(batch.items.numel() <= max(max_tokens, batch.items.shape[1]) for batch in batches)


def test_a_carried_batch_continues_the_rows_of_the_one_before(split):
    before, carried = None, 0
    for batch in carried_batches(split, 300, 10, seed=1):
        if batch.carried:
            carried += 1
            rows = len(batch.users)
            assert torch.equal(batch.users, before.users[:rows])
            # Rows that go on were full, so their last column holds their state.
            assert (before.lengths[:rows] == before.items.shape[1]).all()
        before = batch
    assert carried > 5


def test_cuts_and_order_are_drawn_from_seed_and_epoch(split):
    def shapes(**given):
        return [b.items.shape for b in carried_batches(split, 300, 10, **given)]

    assert shapes(seed=1, epoch=2) == shapes(seed=1, epoch=2)
    assert shapes(seed=1, epoch=2) != shapes(seed=1, epoch=3)
    assert shapes(seed=1, epoch=2) != shapes(seed=2, epoch=2)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shares_together_are_the_batch(split, count):
    for batch in train_batches(split, max_tokens=400, max_len=20):
        shares = [batch.shard(i, count) for i in range(count)]
        assert sum(share.n_targets for share in shares) == batch.n_targets
        for i, share in enumerate(shares):
            assert share.n_targets == int((share.targets > 0).sum())
            wanted = share.targets.flatten()[share.positions]
            assert wanted.tolist() == share.targets[share.targets > 0].tolist()
            for row in range(len(share.users)):
                original = i + row * count
                if original >= len(batch.users):  # fewer rows than parts: nothing to predict
                    assert share.n_targets == 0
                    continue
                width = share.items.shape[1]
                assert torch.equal(share.items[row], batch.items[original, :width])
                assert torch.equal(share.delta[row], batch.delta[original, :width])
                assert torch.equal(share.ratings[row], batch.ratings[original, :width])
                assert share.starts[row] == batch.starts[original]
                assert not batch.items[original, width:].any()


def test_starting_in_the_middle_gives_the_rest(split):
    batches = train_batches(split, max_tokens=400)
    everything = list(batches)
    rest = list(batches.skip(3))
    assert len(rest) == len(everything) - 3
    assert all(torch.equal(a.items, b.items) for a, b in zip(everything[3:], rest, strict=True))


# ------------------------------------------------------------------------------ what time is told


def test_the_arms_of_target_time(split):
    known, hidden, previous, none = (
        next(iter(eval_batches(split, "test", target_time=arm)))
        for arm in ("known", "hidden", "previous", "none")
    )
    rows, last = torch.arange(len(known.users)), known.lengths - 1
    typical = typical_interval(split)
    assert (hidden.delta[rows, last] == typical).all()
    same = torch.ones_like(known.delta, dtype=torch.bool)
    same[rows, last] = False
    assert torch.equal(known.delta[same], hidden.delta[same])
    inside = known.items > 0
    assert (none.delta[inside] == 1).all() and (none.delta[~inside] == 0).all()
    # A window that begins with the history: each position sees the interval behind it.
    whole = last + 1 == torch.from_numpy(split.held_out["test"][1])[known.users]
    assert whole.any()
    assert torch.equal(previous.delta[whole, 1:][inside[whole, 1:]],
                       known.delta[whole, :-1][inside[whole, 1:]])  # fmt: skip
    assert (previous.delta[whole, 0] == 0).all()


def test_in_a_later_window_previous_reaches_back_beyond_its_beginning(split):
    (batch, *_) = eval_batches(split, "test", max_len=5, target_time="previous")
    sequences = split.sequences
    for row, user in enumerate(batch.users.tolist()):
        position = dict(zip(*(a.tolist() for a in split.held_out["test"]), strict=True))[user]
        first = position - int(batch.lengths[row])
        times = sequences.history(user).times
        expected = 0 if first == 0 else times[first] - times[first - 1]
        assert batch.delta[row, 0] == np.float32(expected)


def test_the_typical_interval_is_the_median_of_training_intervals(split):
    intervals = []
    for user in range(split.sequences.n_users):
        times = split.sequences.history(user).times[: split.train_end[user]]
        intervals += np.diff(times).tolist()
    assert typical_interval(split) == np.median(intervals)


def test_an_unknown_arm_is_refused(split):
    for make in (train_batches, carried_batches):
        with pytest.raises(ValueError, match=r"target_time='later'.*known, hidden"):
            make(split, target_time="later")
    with pytest.raises(ValueError, match="target_time='later'"):
        eval_batches(split, "test", target_time="later")
