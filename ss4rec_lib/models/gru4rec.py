"""GRU4Rec: a recurrent network over the sequence of items, blind to time.

Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016, in the
form of RecBole, after Tan et al., "Improved Recurrent Neural Networks for Session-based
Recommendations", DLRS 2016:

    x = dropout(item_embedding(items))
    h = GRU(x)                                     # no biases
    hidden = dense(h)                              # back to the width of the embedding
    scores = hidden @ item_embedding.weight.T      # tied weights, id 0 is padding
"""

from __future__ import annotations

from torch import Tensor, nn

from ss4rec_lib.configuration import Count, Probability
from ss4rec_lib.models.base import Dropout, SequenceConfig, SequenceModel, check_history


class GRU4RecConfig(SequenceConfig):
    """Shape and options under RecBole's names, with its defaults."""

    embedding_size: Count = 64
    hidden_size: Count = 128
    num_layers: Count = 1
    dropout_prob: Probability = 0.3


class GRU4Rec(SequenceModel):
    """Next-item recommender with a gated recurrent unit."""

    config_type = GRU4RecConfig
    config: GRU4RecConfig

    def __init__(self, n_items: int, config: GRU4RecConfig | None = None) -> None:
        super().__init__(n_items, config)
        width = self.config.embedding_size
        self.item_embedding = nn.Embedding(self.n_items + 1, width, padding_idx=0)
        self.dropout = Dropout(self.config.dropout_prob)
        sizes = width, self.config.hidden_size, self.config.num_layers
        self.gru = nn.GRU(*sizes, bias=False, batch_first=True)
        self.dense = nn.Linear(self.config.hidden_size, width)
        # As RecBole does, which leaves layers above the first at PyTorch's own initialisation.
        nn.init.xavier_normal_(self.item_embedding.weight)
        for name in ("weight_ih_l0", "weight_hh_l0"):
            nn.init.xavier_uniform_(getattr(self.gru, name))

    def forward(self, items: Tensor, delta: Tensor) -> Tensor:
        """Return hidden states, (B, L, embedding_size); the intervals have no effect."""
        check_history(items, delta)
        h, _ = self.gru(self.dropout(self.item_embedding(items)))  # (B, L, hidden_size)
        return self.dense(h)
