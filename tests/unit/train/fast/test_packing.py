"""A packed batch holds what every supervised token sees, once, and nothing else but a little padding."""

from __future__ import annotations

import torch
from torch import Tensor

from tunesmith.train.fast.packing import PackedBatch, RowGroup, TokenLayout, pack

PAD = 0
ROWS = [[7, 8, 9, 21, 22, 23, 24], [7, 8, 9, 31, 32], [7, 8, 9, 41, 42, 43, 44, 45, 46, 47]]
FIRST_SUPERVISED = [5, 3, 6]


def batch() -> tuple[Tensor, Tensor]:
    input_ids, labels = torch.full((3, 12), PAD), torch.full((3, 12), -100)
    for row, (tokens, first) in enumerate(zip(ROWS, FIRST_SUPERVISED, strict=True)):
        input_ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, first : len(tokens)] = torch.tensor(tokens[first:])
    return input_ids, labels


def contexts(packed: PackedBatch) -> list[tuple[tuple[int, ...], int]]:
    """What each predicting token can see (prefix and the row up to it), and what it should predict."""
    tokens, prefix, seen = packed.input_ids[0].tolist(), packed.layout.prefix_length, []
    for predictor, target in zip(packed.layout.predictors.tolist(), packed.targets.tolist(), strict=True):
        context = tokens[: min(predictor + 1, prefix)]
        for group in packed.layout.groups:
            if group.start <= predictor < group.stop:
                start = predictor - (predictor - group.start) % group.length
                context = tokens[:prefix] + tokens[start : predictor + 1]
        assert packed.position_ids[0, predictor] == len(context) - 1
        seen.append((tuple(context), target))
    return sorted(seen)


def expected() -> list[tuple[tuple[int, ...], int]]:
    return sorted(
        (tuple(tokens[:position]), tokens[position])
        for tokens, first in zip(ROWS, FIRST_SUPERVISED, strict=True)
        for position in range(first, len(tokens))
    )


def test_every_supervised_token_sees_its_own_row() -> None:
    packed = pack(*batch())
    assert packed is not None
    assert packed.layout.prefix_length == 3
    assert contexts(packed) == expected()


def test_the_last_target_and_what_follows_it_are_no_inputs() -> None:
    packed = pack(*batch())
    assert packed is not None
    assert packed.layout == TokenLayout(3, (RowGroup(3, 3, 6),))  # one group: padding 3 + 5 tokens is cheaper than a second
    assert 47 not in packed.input_ids
    assert packed.layout.num_placed == 21


def test_unlike_rows_are_in_groups_of_their_own() -> None:
    input_ids = torch.arange(1, 201).reshape(2, 100)
    labels = input_ids.clone()
    labels[1, 20:] = -100
    packed = pack(input_ids, labels)
    assert packed is not None
    assert packed.layout == TokenLayout(0, (RowGroup(0, 1, 99), RowGroup(99, 1, 19)))


def test_without_sharing_every_row_has_its_own_beginning() -> None:
    packed = pack(*batch(), share_prefix=False)
    assert packed is not None
    assert packed.layout.prefix_length == 0
    assert contexts(packed) == expected()


def test_supervised_tokens_of_the_shared_beginning_count_for_every_row() -> None:
    input_ids, labels = batch()
    labels = torch.where(input_ids == PAD, -100, input_ids)
    packed = pack(input_ids, labels)
    assert packed is not None
    assert packed.layout.predictors.tolist().count(0) == 3
    assert len(packed.targets) == sum(len(tokens) - 1 for tokens in ROWS)


def test_rows_that_are_alike_keep_a_token_of_their_own() -> None:
    packed = pack(torch.tensor([[1, 2, 3, 4]] * 2), torch.tensor([[-100, -100, 3, 4]] * 2))
    assert packed is not None
    assert packed.layout == TokenLayout(2, (RowGroup(2, 2, 1),))
    assert packed.layout.predictors.tolist() == [1, 2, 1, 3]


def test_rows_without_anything_to_learn_are_left_out() -> None:
    input_ids, labels = batch()
    labels[2] = -100
    packed = pack(input_ids, labels)
    assert packed is not None
    assert 41 not in packed.input_ids
    assert pack(input_ids, torch.full_like(labels, -100)) is None


def test_targets_have_the_weight_of_their_row() -> None:
    input_ids, labels = batch()
    ids, goals = torch.cat([input_ids, input_ids[:1]]), torch.cat([labels, torch.full_like(labels[:1], -100)])
    packed = pack(ids[[3, 0, 1, 2]], goals[[3, 0, 1, 2]], row_weights=torch.tensor([9.0, 0.0, 1.0, 2.0]))
    assert packed is not None
    assert packed.weights is not None
    assert packed.weights.tolist() == [next(n for n, row in enumerate(ROWS) if target in row[3:]) for target in packed.targets.tolist()]
    unweighted = pack(*batch())
    assert unweighted is not None
    assert unweighted.weights is None


def test_what_cannot_be_packed_is_not() -> None:
    input_ids, labels = batch()
    right = (input_ids != PAD).long()
    assert pack(input_ids, labels, right) is not None
    assert pack(input_ids, labels, right.flip(1)) is None
    assert pack(input_ids, labels, max_row_tokens=8) is None
    assert pack(input_ids, labels, max_row_tokens=9) is not None


def test_the_tail_rounds_up_and_belongs_to_nobody() -> None:
    packed = pack(*batch())
    assert packed is not None
    assert packed.layout.num_tokens == 24 == packed.input_ids.numel() == packed.position_ids.numel()
    assert packed.layout.predictors.max() < 21
