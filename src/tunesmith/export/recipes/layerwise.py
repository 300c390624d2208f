"""A decoder run block by block on a few rows, so that what enters a block can be looked at, kept, and computed anew from there on.

Legend: N rows of a batch, T tokens, D hidden, I inputs of a layer, P positions that hold a token of a row (all but the padding).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.errors import DataError
from tunesmith.models.structure import backbone, decoder_blocks

#: Positions that are computed at once.
_BATCH_TOKENS = 2048
Rows = Sequence[Sequence[int]]


@dataclass(frozen=True, eq=False)
class LayerInputs:
    """What one layer takes in over all positions.

    Attributes:
        gram: ``X^T X``, ``(I, I)`` float32.
        mean_abs: mean of ``|x|``, ``(I,)`` float32.
        num_tokens: positions that were looked at.
    """

    gram: Tensor
    mean_abs: Tensor
    num_tokens: int


class Layerwise:
    """Runs a decoder block by block. Rows are padded on the right, where causal attention never looks.

    Args:
        model: in evaluation mode; the weights that it has when a method is called are those that count.
        rows: token ids.

    Raises:
        DataError: without any token.
        ModelError: for a model whose blocks aren't found.
    """

    def __init__(self, model: nn.Module, rows: Rows) -> None:
        rows = sorted((row for row in rows if len(row)), key=len)
        if not rows:
            raise DataError("calibration needs rows with text in them, found none", fix="Give rows: --calibration_files")
        self._body, self.blocks = backbone(model), decoder_blocks(model)
        self._batches = [_Batch.of(part) for part in _parts(rows)]
        self._arguments: list[list[tuple[tuple[Any, ...], dict[str, Any]]]] = []
        self.states: list[Tensor] = []
        self.restart()

    @property
    def num_tokens(self) -> int:
        """Positions that hold a token."""
        return sum(int(batch.lengths.sum()) for batch in self._batches)

    def restart(self) -> None:
        """Begin anew with the embeddings, as the model has them now."""
        self.states, self._arguments = [], []
        for batch in self._batches:
            seen: list[tuple[Tensor, tuple[Any, ...], dict[str, Any]]] = []
            self._run_around(batch, seen, last=None)
            self.states.append(seen[0][0])
            self._arguments.append([(args, options) for _, args, options in seen])

    @torch.inference_mode()
    def run(self, index: int, states: Sequence[Tensor], gather: _Gather | None = None) -> list[Tensor]:
        """Return what block ``index`` makes of hidden states, one ``(N, T, D)`` a batch."""
        _, block = self.blocks[index]
        found = []
        for batch, state, arguments in zip(self._batches, states, self._arguments, strict=True):
            if gather is not None:
                gather.begin(batch)
            args, options = arguments[index]
            out = block(state, *args, **options)
            found.append(out[0] if isinstance(out, tuple) else out)
        return found

    def final(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Return what the output layer takes in, ``(P, D)`` a batch, from what the last block gives."""
        normed = (self._run_around(batch, [], last=state) for batch, state in zip(self._batches, states, strict=True))
        return [batch.without_padding(hidden) for batch, hidden in zip(self._batches, normed, strict=True)]

    def inputs(self, index: int, names: Sequence[str]) -> tuple[dict[str, LayerInputs], list[Tensor]]:
        """Return what layers of block ``index`` take in, from the present states on, and what the block gives out.

        Args:
            names: full names of linear layers inside the block; those that are fed the same share one matrix.
        """
        name, block = self.blocks[index]
        layers = {full: block.get_submodule(full.removeprefix(f"{name}.")) for full in names}
        with _gathered(layers) as gather:
            outputs = self.run(index, self.states, gather)
        return gather.found(), outputs

    @torch.inference_mode()
    def _run_around(self, batch: _Batch, seen: list[Any], *, last: Tensor | None) -> Tensor:
        """Run the model with blocks that do nothing: noting what they are called with; the last gives ``last`` out."""
        with contextlib.ExitStack() as stack:
            for number, (_, block) in enumerate(self.blocks):
                stack.enter_context(_standing_in(block, seen, last if number == len(self.blocks) - 1 else None))
            hidden: Tensor = self._body(input_ids=batch.ids, use_cache=False).last_hidden_state
        return hidden


@dataclass(frozen=True, eq=False)
class _Batch:
    ids: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, rows: Rows) -> _Batch:
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
        return cls(ids, lengths)

    def without_padding(self, values: Tensor) -> Tensor:
        """``(N, T, X)`` -> ``(P, X)``."""
        return values[torch.arange(values.shape[1]) < self.lengths[:, None]]


class _Gather:
    """Sums over batches of what layers take in."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}
        self._leader: dict[str, str] = {}
        self._tokens = 0
        self._batch: _Batch | None = None
        self._seen: list[tuple[Tensor, str]] = []

    def begin(self, batch: _Batch) -> None:
        """From here on, layers take in positions of this batch."""
        self._batch, self._seen = batch, []
        self._tokens += int(batch.lengths.sum())

    def take(self, name: str, values: Tensor) -> None:
        """Add one layer's inputs ``(N, T, I)``."""
        assert self._batch is not None
        for before, leader in self._seen:
            if before is values:
                self._leader[name] = leader
                return
        self._seen.append((values, name))
        self._leader[name] = name
        rows = self._batch.without_padding(values).float()
        if name not in self._sums:
            self._sums[name] = (torch.zeros(rows.shape[1], rows.shape[1]), torch.zeros(rows.shape[1]))
        gram, total = self._sums[name]
        gram.addmm_(rows.t(), rows)
        total += rows.abs().sum(dim=0)

    def found(self) -> dict[str, LayerInputs]:
        """Return the sums by layer."""
        whole = {name: LayerInputs(gram, total / self._tokens, self._tokens) for name, (gram, total) in self._sums.items()}
        return {name: whole[leader] for name, leader in self._leader.items()}


@contextlib.contextmanager
def _gathered(layers: Mapping[str, nn.Module]) -> Iterator[_Gather]:
    """Note what layers take in while the model is run."""
    gather, hooks = _Gather(), []
    try:
        for name, layer in layers.items():
            hooks.append(layer.register_forward_pre_hook(lambda _, args, name=name: gather.take(name, args[0])))
        yield gather
    finally:
        for hook in hooks:
            hook.remove()


def inputs_of(values: Sequence[Tensor]) -> LayerInputs:
    """Return the sums over inputs that are at hand: ``(P, I)`` a batch."""
    gram, total = torch.zeros(values[0].shape[1], values[0].shape[1]), torch.zeros(values[0].shape[1])
    for part in values:
        gram.addmm_(part.float().t(), part.float())
        total += part.float().abs().sum(dim=0)
    tokens = sum(map(len, values))
    return LayerInputs(gram, total / tokens, tokens)


@contextlib.contextmanager
def _standing_in(block: nn.Module, seen: list[Any], result: Tensor | None) -> Iterator[None]:
    def forward(hidden_states: Tensor, *args: Any, **options: Any) -> Tensor:
        seen.append((hidden_states, args, options))
        return hidden_states if result is None else result

    block.forward = forward
    try:
        yield
    finally:
        del block.forward


def _parts(rows: Rows) -> Iterator[Rows]:
    """Rows in their order, as many at once as the longest of them allows."""
    part: list[Sequence[int]] = []
    for row in rows:
        if part and len(row) * (len(part) + 1) > _BATCH_TOKENS:
            yield part
            part = []
        part.append(row)
    yield part
