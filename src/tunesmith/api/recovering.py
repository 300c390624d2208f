"""An adapter that was tuned on floating-point weights learns to live with the grid that ships, from the model it was part of."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.artifact import Manifest, read_manifest
from tunesmith.data.task_file import read_task
from tunesmith.errors import UsageError

if TYPE_CHECKING:
    from tunesmith.train.results import FinetuneResult

log = logging.getLogger(__name__)

#: Options that say what the rows are and how they are read: those of the run hold here too.
_OF_THE_ROWS = frozenset(
    {"data_name", "data_files", "train_subset", "train_split", "eval_subset", "eval_split", "validation_fraction", "max_samples"}
    | {"text_template", "text_field", "use_chat_template", "chat_template", "map_columns", "train_on_prompt", "max_seq_len"}
    | {"allow_truncation", "task", "task_name", "answer_schema", "torch_dtype", "device", "trust_remote_code", "revision", "seed"}
    | {"per_device_train_batch_size", "max_tokens_per_batch"}
)
#: The adapter is nearly right already; steps of the size that made it would throw it about.
LEARNING_RATE = 2e-4
#: Mostly the teacher: the rows have been learnt, what the grid changed has not.
ALPHA = 0.9


def recover(run: str | Path, output_path: str | Path, *, steps: int, overwrite: bool = False, **options: Any) -> FinetuneResult:
    """Train the adapter of a run a little further on the int4 grid of its base, with the run's own model as teacher.

    What rounding the weights to the grid takes away is learnt back on the run's training rows: distillation (Hinton et al. 2015), the
    idea of quantization-aware training with the float model as teacher (Mishra and Marr 2018, Apprentice).

    Args:
        run: folder of a finished ``--method lora`` run, tuned on floating-point weights.
        output_path: folder of the new run, which is one on the grid (see ``manifest.json``: ``grid``).
        steps: steps of training.
        overwrite: replace an earlier result.
        **options: further options of ``tunesmith finetune``, such as ``learning_rate``.

    Raises:
        UsageError: for a run that this is not for.
        UserError: whatever ``finetune`` raises, for example when the training rows are not there any more.
    """
    from tunesmith.api.training import finetune

    folder = Path(run).expanduser()
    manifest = _recoverable(folder)
    rows = {name: entry["value"] for name, entry in manifest.options.items() if name in _OF_THE_ROWS and _was_given(entry)}
    log.info("Learning back what int4 costs: %d steps on the grid, with %s as teacher …", steps, folder)
    settings: dict[str, Any] = {
        "method": "qlora",
        "quant_type": "onnx-int4",
        "loss": "distillation",
        "loss_kwargs": {"alpha": ALPHA},
        "teacher": str(folder),
        "learning_rate": LEARNING_RATE,
        "max_steps": steps,
        "show_answers": 0,
        "verdict": False,
        "task": manifest.task,  # the run's, however its rows would be taken today
    }
    base = manifest.base or str(folder / "model")
    placed = {"model_name_or_path": base, "adapter_path": str(folder), "output_path": str(output_path), "overwrite": overwrite}
    return finetune(**{**settings, **rows, **options, **placed})


def _was_given(entry: Mapping[str, Any]) -> bool:
    return entry.get("value") is not None and entry.get("source") not in ("default", "chosen")


def _recoverable(folder: Path) -> Manifest:
    manifest = read_manifest(folder) if folder.is_dir() else None
    if manifest is None or manifest.kind != "finetune":
        raise UsageError(
            f"{folder} is no finished fine-tuning, and only an adapter of one can be recovered", fix="Name the folder of a run."
        )
    if manifest.grid is not None:
        raise UsageError(f"{folder} was trained on the grid that ships already: there is nothing to recover", fix="Leave --recover out.")
    if manifest.method != "lora":
        fix = "Tune with --method lora, or on the grid: --method qlora --quant_type onnx-int4."
        raise UsageError(f"{folder} is a run of --method {manifest.method}, which leaves no LoRA to train further", fix=fix)
    task = read_task(folder / "adapter")
    if task is not None and task.head:
        raise UsageError(f"{folder} ends in a head, which ships in 8 bits: there is nothing to recover", fix="Leave --recover out.")
    return manifest
