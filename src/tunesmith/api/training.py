"""Fine-tuning: the run itself, then its verdict and its page."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from torch import nn

    from tunesmith.config.finetune import FinetuneOptions
    from tunesmith.runtime.protocol import Runtime
    from tunesmith.train.results import FinetuneResult

log = logging.getLogger(__name__)


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
    resolved = resolve(FinetuneOptions, sources)
    return _judged(run(resolved, answer=_answer), resolved.options)


def _stopped_run(options: Mapping[str, Any]) -> Mapping[str, object]:
    """Return the options that the run to be resumed was started with, so that ``--resume --output_path`` is enough."""
    from tunesmith.config.values import parse_boolean
    from tunesmith.train.checkpoints import read_run_file

    if not options.get("output_path") or not options.get("resume") or not parse_boolean(options["resume"]):
        return {}
    given = (read_run_file(Path(str(options["output_path"])) / "checkpoints") or {}).get("given", {})
    return {name: value for name, value in given.items() if name != "overwrite"} if isinstance(given, Mapping) else {}


def _judged(result: FinetuneResult, options: FinetuneOptions) -> FinetuneResult:
    """Add the verdict and the report to a finished run; whatever goes wrong with them is said, and the run stays as it is."""
    import dataclasses

    verdict = report_path = None
    with _saying("no verdict"):
        if options.verdict:
            from tunesmith.evaluate.judge import VERDICT_ROWS, judge_run
            from tunesmith.train.results import tell_verdict

            log.info("Asking the base model and the tuned one the same held-out rows …")
            found = judge_run(result.output_path, max_rows=options.verdict_rows or VERDICT_ROWS)
            tell_verdict(result.output_path, found.words)
            verdict = found.to_dict()
    with _saying("no report"):
        from tunesmith.report.page import write_report

        report_path = write_report(result.output_path)
    return dataclasses.replace(result, verdict=verdict, report_path=report_path)


@contextlib.contextmanager
def _saying(what: str) -> Iterator[None]:
    """Turn an error inside the block into a warning: what comes after a finished training must not make it look failed."""
    try:
        yield
    except TunesmithError as error:
        log.warning("The run is finished, but there is %s: %s", what, error)
    except Exception as error:
        log.warning("The run is finished, but there is %s: %s: %s", what, type(error).__name__, error)
        log.debug("How that happened:", exc_info=True)


def _answer(model: nn.Module, tokenizer: Any, template: Any, prompts: Sequence[Any]) -> list[str]:
    from tunesmith.runtime.sequence_runtime import SequenceRuntime
    from tunesmith.runtime.torch_runtime import TorchRuntime

    kind = SequenceRuntime if getattr(model.config, "is_encoder_decoder", False) else TorchRuntime
    runtime: Runtime = kind(model, tokenizer, template)
    return [answer.text for answer in runtime.generate(prompts, max_new_tokens=96)]
