"""Losses of pairs of embeddings: ``forward(output1, output2, label)``, a mean over pairs.

B pairs, D hidden size.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from tunesmith.errors import UsageError


class Contrastive(nn.Module):
    """Alike pairs are pulled together, others pushed apart up to a margin (Hadsell, Chopra, LeCun 2006, equation 4).

    ``y d^2 + (1 - y) max(0, margin - d)^2`` with ``d = 1 - cosine`` and ``y`` 1 for alike. A score between 0 and 1 counts as both, in
    proportion.

    Args:
        margin: the distance from which on unlike texts are far enough apart.
    """

    def __init__(self, margin: float = 0.5) -> None:
        super().__init__()
        if not 0 < margin <= 2:
            raise UsageError(f"--loss contrastive: margin is {margin}, it must be above 0 and at most 2 (cosine distances are 0 to 2)")
        self.margin = margin

    def forward(self, output1: Tensor, output2: Tensor, label: Tensor) -> Tensor:
        """Mean over pairs of ``output1`` and ``output2`` ``(B, D)`` with ``label`` ``(B,)``."""
        distance = 1 - functional.cosine_similarity(output1, output2)  # (B,)
        far = (self.margin - distance).clamp_min(0)
        return (label * distance**2 + (1 - label) * far**2).mean()
