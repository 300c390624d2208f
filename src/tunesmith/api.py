"""One flat function a capability; the command line and other programs call these."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from tunesmith.train.finetune import FinetuneResult


def finetune(data: str | None = None, **options: Any) -> FinetuneResult:
    """Fine-tune a small language model on a file of examples.

    Args:
        data: a file, folder, hub id or ``sample:NAME``; the same as ``data_name``.
        **options: every option of ``tunesmith finetune`` by its name (``tunesmith finetune --help`` lists them), and every field of
            ``transformers.TrainingArguments``. Values may be text as typed in a shell.

    Returns: where the result is, the validation figures before and after, and how it went in words.
    Raises:
        UserError: for whatever the caller can mend, before anything is written.

    Example:
        >>> result = tunesmith.finetune("data.jsonl", method="lora", learning_rate=1e-3, output_path="out")  # doctest: +SKIP
    """
    from tunesmith.config.finetune import FinetuneOptions
    from tunesmith.config.resolve import resolve
    from tunesmith.errors import UsageError
    from tunesmith.models.quiet import silence_kernel_advice
    from tunesmith.train.finetune import run

    silence_kernel_advice()
    if data is not None:
        if options.get("data_name") is not None and options["data_name"] != data:
            raise UsageError(f"two data sets are named: {data} and {options['data_name']}", fix="Give one of them.")
        options["data_name"] = data
    sources: list[tuple[str, Mapping[str, object]]] = [("flag", options)]
    stopped = _stopped_run(options)
    if stopped:
        sources.insert(0, ("stopped run", stopped))
    return run(resolve(FinetuneOptions, sources), answer=_answer)


def _stopped_run(options: Mapping[str, Any]) -> Mapping[str, object]:
    """Return the options that the run to be resumed was started with, so that ``--resume --output_path`` is enough."""
    from tunesmith.config.values import parse_boolean
    from tunesmith.train.checkpoints import read_run_file

    if not options.get("output_path") or not options.get("resume") or not parse_boolean(options["resume"]):
        return {}
    given = (read_run_file(Path(str(options["output_path"])) / "checkpoints") or {}).get("given", {})
    return {name: value for name, value in given.items() if name != "overwrite"} if isinstance(given, Mapping) else {}


def _answer(model: nn.Module, tokenizer: Any, template: Any, prompts: Sequence[Any]) -> list[str]:
    from tunesmith.runtime.torch_runtime import TorchRuntime

    runtime = TorchRuntime(model, tokenizer, template)
    return [answer.text for answer in runtime.generate(prompts, max_new_tokens=96)]
