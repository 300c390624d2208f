"""Tasks that end in a head: how rows become tensors, what the base is loaded with, how the loss comes about.

Tasks that are learnt as text (generation, extraction, summarization, labels as text) are one and the same computation, which lives beside
what makes it fast: `tunesmith.train.generation`.
"""

from __future__ import annotations

from tunesmith.registry import Registry

TASKS = Registry(
    "task",
    {
        "text-classification": "tunesmith.tasks.classification:Classification",
        "token-classification": "tunesmith.tasks.tagging:Tagging",
        "similarity": "tunesmith.tasks.similarity:Similarity",
    },
)
