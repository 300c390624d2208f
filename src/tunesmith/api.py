"""One flat function a capability; the command line and other programs call these."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from tunesmith.config.finetune import FinetuneOptions
    from tunesmith.data.augment import Augmented
    from tunesmith.data.cleaning import Cleaned
    from tunesmith.data.converting import Converted, Target
    from tunesmith.data.dividing import Divided
    from tunesmith.data.doctor.report import Report
    from tunesmith.data.preview_rows import Preview
    from tunesmith.evaluate.evaluation import Evaluation
    from tunesmith.evaluate.rating.summary import RatingSummary
    from tunesmith.evaluate.test_set import TestSet
    from tunesmith.evaluate.verdict import Verdict
    from tunesmith.report.diagnose import Diagnosis
    from tunesmith.runtime.chat import ChatSession
    from tunesmith.runtime.protocol import Answer, Runtime
    from tunesmith.train.finetune import FinetuneResult

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


def load(
    path: str | Path | None = None,
    *,
    adapter_path: str | Path | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    revision: str | None = None,
    token: str | None = None,
) -> Runtime:
    """Load a model, and what was trained on it, ready for ``.generate(prompts)`` and ``.stream(prompt)``.

    Args:
        path: the output folder of a fine-tuning, one of its checkpoints, an adapter folder, a model folder, a GGUF file, a hub id, or
            ``sample:NAME``; None for the sample model.
        adapter_path: an adapter to put on the model.
        dtype: ``auto``, ``bfloat16``, ``float16`` or ``float32``.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        trust_remote_code: run Python code that comes with the model.
        revision, token: of a hub model.

    Raises:
        UserError: when it can't be found, read or put together.

    Example:
        >>> tunesmith.load("out").generate(["where is my parcel?"])[0].text  # doctest: +SKIP
    """
    from tunesmith.models.quiet import silence_kernel_advice
    from tunesmith.runtime.load import load as load_runtime

    silence_kernel_advice()
    return load_runtime(
        path, adapter_path=adapter_path, dtype=dtype, device=device, trust_remote_code=trust_remote_code, revision=revision, token=token
    )


def generate(
    path: str | Path | None,
    prompts: Sequence[Any],
    *,
    adapter_path: str | Path | None = None,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    batch_size: int | None = None,
) -> list[Answer]:
    """Load a model and answer prompts, each a text, a row (for templates with several columns), or a list of messages.

    To answer more than once, keep what :func:`load` returns.

    Raises:
        UserError: as :func:`load`, and for prompts that don't fit the template or the context.
    """
    runtime = load(path, adapter_path=adapter_path)
    return runtime.generate(prompts, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed, batch_size=batch_size)


def chat(
    path: str | Path | None = None,
    *,
    adapter_path: str | Path | None = None,
    system_prompt: str | None = None,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    **loading: Any,
) -> ChatSession:
    """Return a conversation with a model; ``loading`` is passed to :func:`load`.

    Raises:
        UserError: as :func:`load`.
    """
    from tunesmith.runtime.chat import ChatSession

    return ChatSession(
        load(path, adapter_path=adapter_path, **loading),
        system_prompt=system_prompt,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    )


def evaluate(
    path: str | Path | None = None,
    data: TestSet | None = None,
    *,
    metrics: Sequence[str] | None = None,
    limit: int | None = None,
    max_new_tokens: int = 256,
    batch_size: int | None = None,
    labels: Sequence[str] | None = None,
    reference_column: str | None = None,
    map_columns: Mapping[str, str] | None = None,
    text_template: str | None = None,
    output_path: str | Path | None = None,
    overwrite: bool = False,
    **loading: Any,
) -> Evaluation:
    """Measure a model on a test set.

    Args:
        path: what :func:`load` takes.
        data: a file or several, a list of rows, or a ``datasets.Dataset``; by default the rows that a run held out of its training.
        metrics: names, or ``file.py:function``; by default those usual for the task. ``docs/evaluate.md`` lists them.
        limit: measure the first so many rows only.
        max_new_tokens: where an answer that doesn't end by itself is cut.
        batch_size: rows at once; by default as many as a budget of tokens allows.
        labels: labels to choose among, for a model that writes text and was not trained on labels.
        reference_column: where the right answer (or a list of them) is; by default the column of training.
        map_columns: old name -> new name, before anything else.
        text_template: how a row becomes a prompt, for a model that was not tuned here.
        output_path: a folder for ``predictions.jsonl`` and ``metrics.json``.
        overwrite: replace these files when they are there already.
        **loading: further arguments of :func:`load`.

    Returns: figures by name, one number a row for each metric that has one, speed and size.
    Raises:
        UserError: for whatever the caller can mend, before the model is loaded where that is possible.

    Example:
        >>> tunesmith.evaluate("out", "test.jsonl", metrics=["accuracy", "f1"]).metrics["accuracy"]  # doctest: +SKIP
    """
    from tunesmith.evaluate.evaluation import evaluate as evaluate_runtime
    from tunesmith.evaluate.result_files import check_free, write_metrics
    from tunesmith.evaluate.test_set import read_test_set
    from tunesmith.metrics import check_metrics

    check_metrics(metrics)
    predictions_file = check_free(output_path, overwrite=overwrite)
    rows = read_test_set(data, path, map_columns=map_columns)
    found = evaluate_runtime(
        load(path, **loading),
        rows,
        metrics=metrics,
        limit=limit,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        labels=labels or (),
        reference_column=reference_column,
        text_template=text_template,
        predictions_file=predictions_file,
    )
    if output_path is not None:
        write_metrics(Path(output_path), found)
    return found


def evaluate_benchmarks(
    path: str | Path | None,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    num_fewshot: int | None = None,
    include_path: str | Path | None = None,
    batch_size: int | None = None,
    output_path: str | Path | None = None,
    overwrite: bool = False,
    **loading: Any,
) -> Evaluation:
    """Ask a model the tasks of lm-eval; needs the extra ``eval``.

    Args:
        path: what :func:`load` takes.
        tasks: names of lm-eval's tasks, or of your own in ``include_path``.
        limit: questions of each task at most.
        num_fewshot: solved examples before each question; None for what the task says.
        include_path: a folder of task files (YAML).
        batch_size: answers generated at once.
        output_path: a folder for ``predictions.jsonl`` and ``metrics.json``.
        overwrite: replace these files when they are there already.
        **loading: further arguments of :func:`load`.

    Returns: figures by ``task/metric``.
    Raises:
        UserError: for a task that doesn't exist or whose data can't be read, and as :func:`load`.
    """
    from tunesmith.evaluate.benchmarks import Harness
    from tunesmith.evaluate.result_files import check_free, write_metrics

    harness = Harness(include_path)
    harness.check(tasks)
    file = check_free(output_path, overwrite=overwrite)
    found = harness.run(load(path, **loading), tasks, limit=limit, num_fewshot=num_fewshot, batch_size=batch_size, predictions_file=file)
    if output_path is not None:
        write_metrics(Path(output_path), found)
    return found


def evaluate_model(
    model_path: str | Path, test_dataset: TestSet, metric_type: str | Sequence[str] = "accuracy", **options: Any
) -> dict[str, float]:
    """Measure a model on a test set and return figures by name, such as ``{"accuracy": 0.93}``.

    Args:
        model_path: what :func:`load` takes.
        test_dataset: a file, a list of rows, or a ``datasets.Dataset``, with the columns of training and the right answers.
        metric_type: a metric, several separated by commas, or a list of them.
        **options: further arguments of :func:`evaluate`.

    Raises:
        UserError: as :func:`evaluate`.
    """
    names = [name.strip() for name in metric_type.split(",")] if isinstance(metric_type, str) else list(metric_type)
    return evaluate(model_path, test_dataset, metrics=names, **options).metrics


def merge(
    path: str,
    output_path: str,
    *,
    adapter_path: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write one plain model folder that answers as base and adapter do together, merged in float32; returns the folder.

    Raises:
        UserError: see ``tunesmith.runtime.merge``.
    """
    from tunesmith.models.quiet import silence_kernel_advice
    from tunesmith.runtime.merge import merge as merge_folders

    silence_kernel_advice()
    return merge_folders(
        path,
        output_path,
        adapter_path=adapter_path,
        revision=revision,
        token=token,
        trust_remote_code=trust_remote_code,
        overwrite=overwrite,
    )


def rate(
    output_path: str | Path = "ratings",
    *,
    data_files: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    answers: Sequence[str] | None = None,
    text_field: str | None = None,
    max_samples: int | None = None,
    scale: Literal["pairs", "1-5"] | None = None,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    ready: Callable[[str], None] = print,
    **loading: Any,
) -> RatingSummary | None:
    """Let models answer prompts, and people compare the answers, blind, on a local page, until Ctrl-C; goes on with what is there.

    Args:
        output_path: folder of the rating.
        data_files, text_field, max_samples: the prompts.
        models: at least two, as :func:`load` takes them.
        answers: in place of prompts and models a file of answers for each model, as ``evaluate`` or ``generate`` writes it.
        scale: ``pairs`` (default) or ``1-5``.
        max_new_tokens, temperature, top_p: of the answers, as :meth:`Runtime.generate` takes them.
        seed: of sampling, and of the order in which answers are shown.
        host, port: where to listen; this machine alone, at any free port, by default.
        ready: called with the page's link.
        **loading: passed to :func:`load` for each model.

    Returns: the result so far; None when nobody has voted.
    Raises:
        UserError: for whatever the caller can mend.
    """
    from tunesmith.evaluate.rating.rate import prepare, serve

    sampling = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p}
    prepare(
        Path(output_path).expanduser(),
        data_files=data_files,
        models=models,
        answers=answers,
        scale=scale,
        text_field=text_field,
        max_samples=max_samples,
        seed=seed,
        sampling=sampling,
    )
    return serve(Path(output_path).expanduser(), lambda model: load(model, **loading), host=host, port=port, ready=ready)


def rating_summary(output_path: str | Path = "ratings") -> tuple[RatingSummary, Path]:
    """Return the result of a rating so far, and the file ``export.jsonl`` that everything is written to.

    Raises:
        UserError: when there is no rating in the folder, or nobody has voted.
    """
    from tunesmith.evaluate.rating.rate import summary_and_export

    return summary_and_export(Path(output_path).expanduser())


def compare(
    first: str | Path,
    second: str | Path,
    *,
    data_files: Sequence[str],
    max_samples: int | None = None,
    map_columns: Mapping[str, str] | None = None,
    metric: str | None = None,
    max_new_tokens: int | None = None,
    seed: int = 0,
    **loading: Any,
) -> Verdict:
    """Let two models answer the same rows, and say whether the second is better than the first.

    Args:
        first, second: models as :func:`load` takes them; one that was not tuned is asked as the other was in training.
        data_files: rows with prompts and right answers.
        max_samples: most rows, spread evenly.
        map_columns: old name -> new name.
        metric: what decides; that of the task by default.
        max_new_tokens: where answers are cut.
        seed: of the bootstrap.
        **loading: passed to :func:`load` for both.

    Raises:
        UserError: as :func:`load`, and for rows or metrics that models can't be compared by.
    """
    from tunesmith.data.sources import load_splits
    from tunesmith.evaluate.comparison import compare as compare_models
    from tunesmith.evaluate.verdict import Names
    from tunesmith.runtime.places import find_places

    for model in (first, second):
        find_places(model)  # a second model that isn't there is named before the first has answered everything
    splits = load_splits(data_files=list(data_files), map_columns=map_columns)
    return compare_models(
        lambda: load(first, **loading),
        lambda: load(second, **loading),
        splits.train,
        names=Names(str(first), str(second)),
        metric=metric,
        max_rows=max_samples,
        max_new_tokens=max_new_tokens,
        origin=splits.origin,
        seed=seed,
    )


def report(*runs: str | Path, output_path: str | Path | None = None, overwrite: bool = False) -> Path:
    """Write the page that tells a finished run, or compares several, and return its path.

    Args:
        *runs: folders of finished runs.
        output_path: file of the page; by default ``report.html`` in the run's folder, for several runs in the working folder.
        overwrite: replace ``output_path`` when it is there already; a run's own page is always written anew.

    Raises:
        UserError: when a folder holds no finished run, or the page can't be written.
    """
    from tunesmith.report.page import write_report
    from tunesmith.report.runs_page import write_comparison

    folders = [Path(run).expanduser() for run in runs]
    path = None if output_path is None else Path(output_path).expanduser()
    if len(folders) == 1:
        return write_report(folders[0], path, overwrite=overwrite)
    return write_comparison(folders, path, overwrite=overwrite)


def diagnose(run: str | Path) -> Diagnosis:
    """Say why a finished run's result is poor, as far as its files tell, and what to try next.

    Raises:
        UserError: when the folder holds no finished run.
    """
    from tunesmith.report.diagnose import diagnose as diagnose_run
    from tunesmith.report.run_files import read_run_files

    return diagnose_run(read_run_files(Path(run).expanduser()))


def read_rows(data_files: Sequence[str], *, max_samples: int | None = None) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of data files, one mapping of columns each.

    Raises:
        DataError: when a file can't be read.
    """
    from tunesmith.data.provenance import data_columns
    from tunesmith.data.sources import load_splits

    rows = load_splits(data_files=list(data_files), max_samples=max_samples).train
    yield from rows.select_columns(data_columns(rows))


def check_data(
    data_files: str | Sequence[str],
    *,
    test_files: Sequence[str] = (),
    checks: Sequence[str] | None = None,
    text_template: str | None = None,
    text_field: str | None = None,
    map_columns: Mapping[str, str] | None = None,
    model_name_or_path: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
    max_seq_len: int | None = None,
    phone_region: str | None = "US",
) -> Report:
    """Find what is wrong with data, by file and line.

    Args:
        data_files: files of training rows, or one folder with its splits.
        test_files: rows to measure on; those that training gives away are found.
        checks: names in ``tunesmith.data.doctor.CHECKS``; all when None.
        text_template, text_field, map_columns: how rows become text, as for :func:`finetune`.
        model_name_or_path, revision, token, trust_remote_code: the model to be trained; its tokens are then counted.
        max_seq_len: most tokens of a row.
        phone_region: the country whose way of writing phone numbers counts beside the international one; ``none`` for none.

    Raises:
        UserError: for files that aren't there or hold no row, and for options that don't fit.
    """
    from tunesmith.data.doctor.examine import examine
    from tunesmith.data.doctor.inputs import check_region, files_by_split

    return examine(
        files_by_split(data_files, test_files),
        checks=checks,
        text_template=text_template,
        text_field=text_field,
        map_columns=map_columns,
        tokenizer=_tokenizer(model_name_or_path, revision, token, trust_remote_code) if model_name_or_path else None,
        max_seq_len=max_seq_len,
        phone_region=check_region(phone_region),
    )


def clean_data(
    data_files: Sequence[str],
    output_path: str | Path,
    *,
    test_files: Sequence[str] = (),
    conflicts: Literal["majority", "drop", "keep"] = "majority",
    text_template: str | None = None,
    text_field: str | None = None,
    map_columns: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Cleaned:
    """Write rows anew, mended, without those that can't be; see :func:`tunesmith.data.cleaning.clean`."""
    from tunesmith.data.cleaning import clean
    from tunesmith.data.doctor.inputs import existing

    return clean(
        [existing(file) for file in data_files],
        Path(output_path).expanduser(),
        test_files=[existing(file) for file in test_files],
        conflicts=conflicts,
        text_template=text_template,
        text_field=text_field,
        map_columns=map_columns,
        overwrite=overwrite,
    )


def split_data(
    data_files: Sequence[str],
    output_path: str | Path,
    *,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    group_by: str | None = None,
    time_by: str | None = None,
    stratify_by: str | None = None,
    text_template: str | None = None,
    map_columns: Mapping[str, str] | None = None,
    file_type: str = "jsonl",
    seed: int = 0,
    overwrite: bool = False,
) -> Divided:
    """Divide rows into training, validation and test files of a folder; see :func:`tunesmith.data.dividing.divide`."""
    from tunesmith.data.dividing import divide
    from tunesmith.data.doctor.inputs import existing

    return divide(
        [existing(file) for file in data_files],
        Path(output_path).expanduser(),
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        group_by=group_by,
        time_by=time_by,
        stratify_by=stratify_by,
        text_template=text_template,
        map_columns=map_columns,
        file_type=f".{file_type}",
        seed=seed,
        overwrite=overwrite,
    )


def convert_data(
    data_files: Sequence[str],
    output_path: str | Path,
    *,
    to: Target = "same",
    map_columns: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Converted:
    """Write rows in another format or kind of file; see :func:`tunesmith.data.converting.convert`."""
    from tunesmith.data.converting import convert
    from tunesmith.data.doctor.inputs import existing

    files = [existing(file) for file in data_files]
    return convert(files, Path(output_path).expanduser(), to=to, map_columns=map_columns, overwrite=overwrite)


def preview_data(
    data_files: Sequence[str],
    *,
    model_name_or_path: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
    num_rows: int = 3,
    color: bool = False,
    **rendering: Any,
) -> Preview:
    """Return the first rows as a model will see them; ``rendering`` is passed to :func:`tunesmith.data.preview_rows.preview_rows`."""
    from tunesmith.data.doctor.inputs import existing
    from tunesmith.data.preview_rows import preview_rows

    files = [existing(file) for file in data_files]
    tokenizer = _tokenizer(model_name_or_path, revision, token, trust_remote_code)
    return preview_rows(files, tokenizer, num_rows=num_rows, color=color, **rendering)


def augment_data(
    data_files: Sequence[str],
    output_path: str | Path,
    *,
    kinds: Sequence[str] | None = None,
    num_copies: int = 1,
    synonyms_file: str | Path | None = None,
    paraphrase_model: str | None = None,
    test_files: Sequence[str] = (),
    map_columns: Mapping[str, str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Augmented:
    """Write training rows and variations of them; see :func:`tunesmith.data.augment.augment`.

    Args:
        paraphrase_model: a model as :func:`load` takes it, which says prompts in other words.
    """
    from tunesmith.data.augment import augment
    from tunesmith.data.doctor.inputs import existing

    return augment(
        [existing(file) for file in data_files],
        Path(output_path).expanduser(),
        kinds=kinds,
        num_copies=num_copies,
        synonyms_file=Path(synonyms_file).expanduser() if synonyms_file is not None else None,
        paraphrase=_paraphrase(paraphrase_model) if paraphrase_model is not None else None,
        test_files=[existing(file) for file in test_files],
        map_columns=map_columns,
        seed=seed,
        overwrite=overwrite,
    )


def _paraphrase(model: str) -> Callable[[Sequence[str], int], list[str]]:
    """Return what says texts in other words by a model, which is loaded now."""
    from tunesmith.data.augment import PARAPHRASE_PROMPT

    runtime = load(model)

    def say_again(texts: Sequence[str], seed: int) -> list[str]:
        prompts = [[{"role": "user", "content": PARAPHRASE_PROMPT.format(text=text)}] for text in texts]
        return [answer.text for answer in runtime.generate(prompts, max_new_tokens=128, temperature=0.8, top_p=0.95, seed=seed)]

    return say_again


def _tokenizer(name: str | None, revision: str | None, token: str | None, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    from tunesmith.models.load import load_tokenizer
    from tunesmith.models.sources import resolve_model

    return load_tokenizer(resolve_model(name, revision=revision, token=token), trust_remote_code=trust_remote_code)


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
        from tunesmith.evaluate.judge import VERDICT_ROWS, clear, judge_run

        clear(result.output_path)
        if options.verdict:
            log.info("Asking the base model and the tuned one the same held-out rows …")
            verdict = judge_run(result.output_path, max_rows=options.verdict_rows or VERDICT_ROWS).to_dict()
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
