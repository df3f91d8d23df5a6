"""The popularity baseline behind the interface of a sequence model."""

import numpy as np
import pytest
import torch

from ss4rec_lib.models import Popularity


def test_scores_are_the_training_counts_for_everybody():
    model = Popularity(np.array([0, 5, 2, 7]))
    hidden = model(torch.tensor([[1, 2], [3, 3]]), torch.zeros(2, 2))
    scores = model.logits(hidden)
    assert scores.shape == (2, 2, 4)
    assert torch.equal(scores[1, 0], torch.tensor([0.0, 5.0, 2.0, 7.0], dtype=torch.float64))


@pytest.mark.parametrize("counts", [np.array([0, -1]), np.zeros((2, 2)), np.array([0])])
def test_counts_that_are_none_are_refused(counts):
    with pytest.raises(ValueError, match="expected"):
        Popularity(counts)
