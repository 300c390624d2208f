"""What makes training fast: one trick a file, each with a fallback, an equality test and a row in benchmarks/tricks.py."""

from __future__ import annotations

from tunesmith.train.fast.acceleration import TRICKS, accelerate_model, restore_model
from tunesmith.train.fast.allocator import tune_allocator
from tunesmith.train.fast.attention import attention_kernel
from tunesmith.train.fast.cross_entropy import linear_cross_entropy
from tunesmith.train.fast.loss import SupervisedLoss, supervised_loss
from tunesmith.train.fast.microbatch import micro_batches

__all__ = [
    "TRICKS",
    "SupervisedLoss",
    "accelerate_model",
    "attention_kernel",
    "linear_cross_entropy",
    "micro_batches",
    "restore_model",
    "supervised_loss",
    "tune_allocator",
]
