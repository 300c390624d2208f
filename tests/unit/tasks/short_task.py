"""Tasks and models for the tests of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn

from tiny_encoders import ENCODERS, save_tiny_encoder
from tiny_models import save_tiny, tiny_tokenizer
from tunesmith.config.finetune import FinetuneOptions
from tunesmith.config.resolve import resolve
from tunesmith.data.prepare import Prepared
from tunesmith.methods.protocol import Method
from tunesmith.models.load import load_model
from tunesmith.models.reading import Reading
from tunesmith.models.sources import resolve_model
from tunesmith.tasks import TASKS
from tunesmith.tasks.protocol import Columns, HeadTask
from tunesmith.tasks.rows import Limits

LABELLED = [{"text": f"thing number {n} is {c} {'indeed ' * (n % 5)}", "label": c} for n in range(6) for c in ("red", "green", "blue")]
TAGGED = [
    {"tokens": ["user", "asks", "Anna", "Smith", "in", "Oslo"], "tags": ["O", "O", "B-person", "I-person", "O", "B-place"]},
    {"tokens": ["the", "train", "to", "Oslo"], "tags": ["O", "O", "O", "B-place"]},
    {"tokens": ["hello"], "tags": ["O"]},
] * 3
PAIRS = [{"text1": f"a {c} thing", "text2": f"{o} it is, number {n}", "label": int(c == o)} for n in range(4) for c in "abc" for o in "abc"]
COLUMNS = {
    "text-classification": Columns(("text",), "label"),
    "token-classification": Columns(("tokens",), "tags"),
    "similarity": Columns(("text1", "text2"), "label"),
}
ENCODER, DECODER = Reading(causal=False, token_types=True), Reading(causal=True)
ROWS: dict[str, list[dict[str, Any]]] = {"text-classification": LABELLED, "token-classification": TAGGED, "similarity": PAIRS}


def make_task(
    name: str,
    rows: list[dict[str, Any]] | None = None,
    *,
    columns: Columns | None = None,
    tokenizer: Any = None,
    reading: Reading = ENCODER,
    **options: Any,
) -> HeadTask:
    """A task over rows, with the tiny tokenizer, for an encoder."""
    data = Dataset.from_list(ROWS[name] if rows is None else rows)
    chosen = resolve(FinetuneOptions, [("flag", options)]).options
    made: Any = TASKS.load(name)
    task: HeadTask = made.from_rows(columns or COLUMNS[name], data, None, chosen, tokenizer or tiny_tokenizer(), reading)
    return task


def prepared(task: HeadTask, rows: list[dict[str, Any]] | None = None, **limits: Any) -> Prepared:
    """Rows as token ids and labels."""
    return task.prepare(Dataset.from_list(ROWS[task.record.name] if rows is None else rows), Limits(**limits))


def batch_of(task: HeadTask, rows: list[dict[str, Any]] | None = None) -> dict[str, Tensor]:
    """All rows as one batch."""
    return task.collate(list(prepared(task, rows).dataset), int(tiny_tokenizer().pad_token_id))


def base_folder(family: str, folder: Path) -> Path:
    """A tiny model without the head, on disk."""
    path = folder / family
    if not path.is_dir():
        (save_tiny_encoder if family in ENCODERS else save_tiny)(family, path)
    return path


def load_for(task: HeadTask, folder: Path) -> Any:
    """The base with the task's head, which is random."""
    torch.manual_seed(0)
    return load_model(resolve_model(folder), dtype="float32", device="cpu", task=task.head)


def train(model: nn.Module, method: Method, task: HeadTask, batch: dict[str, Tensor], *, steps: int = 4, rate: float = 1e-2) -> list[float]:
    """A few steps of AdamW on one batch; the loss of each."""
    optimizer = torch.optim.AdamW(method.trainable(model).values(), lr=rate)
    losses = []
    for _ in range(steps):
        result = task.loss(model, batch)
        loss = result.loss_sum / result.count
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    model.eval()
    return losses


@torch.no_grad()
def outputs(model: nn.Module, task: HeadTask, batch: dict[str, Tensor]) -> Tensor:
    """What the task sees of a model: logits, or cosines."""
    if task.record.name == "similarity":
        return torch.stack([cosine for cosine, _ in task.loss(model, batch).seen])
    mask = (torch.arange(batch["input_ids"].shape[1])[None, :] < batch["lengths"][:, None]).long()
    logits: Tensor = model(input_ids=batch["input_ids"], attention_mask=mask).logits.float()
    return logits[mask.bool()] if logits.dim() == 3 else logits
