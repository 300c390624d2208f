"""The common work of the training benchmarks: short questions and their labels, as a chat, loss on the answer only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PROMPT = "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
COMPLETION = "{label}<|im_end|>"
NUM_ROWS = 2000
BATCH = 32
RANK, ALPHA = 64, 16
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
#: Steps before the clock starts.
WARM_UP_STEPS = 2
#: Training arguments of both sides when their loss curves are compared.
CURVE: dict[str, Any] = {
    "seed": 42,
    "learning_rate": 1e-3,
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
}


def load_rows(data: Path, num_rows: int = NUM_ROWS) -> list[dict[str, str]]:
    """The first rows of a JSON-lines file with the columns ``text`` and ``label``, as prompt and completion."""
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()[:num_rows]]
    return [{"prompt": PROMPT.format(text=row["text"]), "completion": COMPLETION.format(label=row["label"])} for row in rows]


def load_examples(data: Path, tokenizer: Any, num_rows: int = NUM_ROWS) -> list[dict[str, list[int]]]:
    """The same rows as ``input_ids`` and ``labels`` (-100 on the prompt)."""
    examples = []
    for row in load_rows(data, num_rows):
        prompt, completion = tokenizer(row["prompt"]).input_ids, tokenizer(row["completion"]).input_ids
        examples.append({"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion})
    return examples
