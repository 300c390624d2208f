"""Texts as vectors: alike texts point the same way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunesmith.data.templates import PromptValue
from tunesmith.errors import DataError
from tunesmith.models.pooling import pool
from tunesmith.runtime.head_runtime import HeadRuntime

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class EmbedderRuntime(HeadRuntime):
    """A `Runtime` around a model without an output layer: its answer to a pair of texts is their cosine."""

    def embed(self, texts: Sequence[str], *, batch_size: int | None = None) -> npt.NDArray[np.float32]:
        """Return ``(N, D)`` vectors of unit length, so that the product of two is the cosine of their texts."""
        import numpy as np

        encoded, _ = self.encode([(text,) for text in texts])
        vectors: dict[int, npt.NDArray[np.float32]] = {}
        for batch, mask, output in self.outputs(encoded, batch_size=batch_size):
            pooled = pool(output.last_hidden_state, mask.sum(dim=1).clamp(min=1), self.task.pooling or "mean")
            vectors.update(zip(batch, pooled.cpu().numpy(), strict=True))
        return np.stack([vectors[place] for place in range(len(encoded))])

    def similarities(self, prompts: Sequence[PromptValue], *, batch_size: int | None = None) -> list[float]:
        """Return the cosine of each pair of texts, -1 to 1.

        Raises:
            DataError: for a prompt that is no pair.
        """
        pairs = [self.texts_of(prompt) for prompt in prompts]
        if any(len(pair) != 2 for pair in pairs):
            raise DataError("the model compares two texts", fix='Give them by name: {"text1": "…", "text2": "…"}')
        unique = list(dict.fromkeys(text for pair in pairs for text in pair))
        places = {text: place for place, text in enumerate(unique)}
        vectors = self.embed(unique, batch_size=batch_size)
        return [float(vectors[places[first]] @ vectors[places[second]]) for first, second in pairs]

    def answers(self, prompts: Sequence[PromptValue], *, batch_size: int | None = None) -> list[str]:
        """Return the cosine of each pair, with four decimals."""
        return [f"{cosine:.4f}" for cosine in self.similarities(prompts, batch_size=batch_size)]
