"""Losses: modules that turn outputs and labels into one number, and loading a user's ``file.py:Name``.

Every loss is a mean over the rows it is given: ``forward(logits, labels)`` with ``logits`` ``(N, V)`` float32 and ``labels`` ``(N,)``, or,
for pairs of texts, ``forward(output1, output2, label)``. Training multiplies the mean by N and divides the sum of a whole step by its rows.
"""

from __future__ import annotations

from tunesmith.registry import Registry

LOSSES = Registry(
    "loss",
    {
        "cross-entropy": "tunesmith.losses.labels:CrossEntropy",
        "label-smoothing": "tunesmith.losses.labels:LabelSmoothing",
        "focal": "tunesmith.losses.labels:Focal",
        "contrastive": "tunesmith.losses.pairs:Contrastive",
        "distillation": "tunesmith.losses.distillation:Distillation",
    },
)
