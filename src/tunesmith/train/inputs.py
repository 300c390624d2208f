"""Everything that training reads, from the options: rows, template, held-out rows, tokens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tunesmith.config.finetune import FinetuneOptions
from tunesmith.data.doctor.before_training import stop_or_say
from tunesmith.data.formats import Format, answer_texts, recognize
from tunesmith.data.prepare import Prepared, prepare
from tunesmith.data.provenance import data_columns
from tunesmith.data.sources import Splits, load_splits
from tunesmith.data.templates import Template, choose_template
from tunesmith.errors import DataError, UsageError
from tunesmith.losses.load import is_file
from tunesmith.models.heads import is_encoder_decoder
from tunesmith.models.reading import Reading, reading_of
from tunesmith.models.sources import ModelSource
from tunesmith.tasks import TASKS
from tunesmith.tasks.protocol import HeadTask, Task
from tunesmith.tasks.rows import Limits
from tunesmith.tasks.sequence_to_sequence import SequenceToSequence
from tunesmith.train.generation import Generation, text_loss
from tunesmith.train.held_out import held_out_rows
from tunesmith.train.label_weights import label_weights, weigh_rows
from tunesmith.train.rows import hash_data, split_rows, written_answers
from tunesmith.train.task_choice import check_encoder_decoder, choose_task, columns_of, text_task

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

# Rows that the choice of a template looks at.
TEMPLATE_ROWS = 50


@dataclass(frozen=True)
class Inputs:
    """What training reads.

    Attributes:
        train, validation: tokenized rows.
        validation_rows: the same rows as they were read, for prompts and references.
        template: how a row becomes text; None for a task that ends in a head.
        task: how rows become tensors and a loss; its record is what the model will do.
        held_out: rows that the run does not train on, for the verdict.
        origin: what messages call the data.
        recognized: in words, how the rows were understood.
        data_hash: sha256 of the data.
    """

    train: Prepared
    validation: Prepared | None
    validation_rows: Dataset | None
    template: Template | None
    task: Task
    held_out: Dataset | None
    origin: str
    recognized: str
    data_hash: str

    def sample_rows(self, count: int) -> list[dict[str, Any]]:
        """Return up to ``count`` validation rows, spread evenly."""
        rows = self.validation_rows
        if rows is None or not count:
            return []
        step = max(1, len(rows) // count)
        return [dict(rows[index]) for index in range(0, len(rows), step)][:count]

    def reference(self, row: dict[str, Any]) -> str:
        """Return the first answer that a row holds."""
        return next(iter(self.template.answers(row)), "").strip() if self.template else ""


def read_inputs(
    options: FinetuneOptions,
    explicit: Collection[str],
    source: ModelSource,
    tokenizer: PreTrainedTokenizerBase,
    *,
    model_max_len: int | None,
    seed: int,
    report: Path,
) -> Inputs:
    """Read and tokenize the data.

    Args:
        options: of the run; ``explicit`` are those that somebody gave.
        source, tokenizer: of the base model.
        model_max_len: most tokens that the model takes.
        seed: decides which rows are held out.
        report: where rows that are cut or dropped are listed.

    Raises:
        UserError: for whatever is wrong with the data or the template.
    """
    if options.data_name is None and not options.data_files:
        raise UsageError("no data is named", fix="Give a file: tunesmith finetune data.jsonl (or --data_name, --data_files).")
    splits = load_splits(
        data_name=options.data_name,
        data_files=options.data_files,
        train_subset=options.train_subset,
        train_split=options.train_split,
        eval_subset=options.eval_subset,
        eval_split=options.eval_split,
        max_samples=options.max_samples,
        map_columns=options.map_columns,
        token=options.token,
    )
    form = None if options.text_template or options.text_field else recognize(splits.train, origin=splits.origin)
    name, head = choose_task(options, explicit, form)
    stop_or_say(splits, tokenizer, form=form, text_template=options.text_template, text_field=options.text_field, generates=not head)
    limits = Limits(options.max_seq_len, model_max_len, options.allow_truncation, report)
    if is_encoder_decoder(source):
        check_encoder_decoder(options, explicit, head=head)
        return _sequence_inputs(splits, options, form, name, tokenizer, limits, seed=seed)
    if head:
        assert form is not None  # choose_task refuses templates with a head
        reading = reading_of(source, trust_remote_code=options.trust_remote_code)
        return _head_inputs(splits, options, form, name, tokenizer, reading, limits, seed=seed)
    return _text_inputs(splits, options, form, name, tokenizer, limits, seed=seed)


def _text_inputs(
    splits: Splits,
    options: FinetuneOptions,
    form: Format | None,
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    limits: Limits,
    *,
    seed: int,
) -> Inputs:
    template = choose_template(
        form,
        data_columns(splits.train),
        tokenizer,
        text_template=options.text_template,
        text_field=options.text_field,
        use_chat_template=options.use_chat_template,
        chat_template=options.chat_template,
        train_on_prompt=options.train_on_prompt,
        rows=[splits.train[index] for index in range(min(TEMPLATE_ROWS, len(splits.train)))],
    )
    splits, listed = written_answers(splits, options, name, template.answer_column)
    train_rows, validation_rows = split_rows(splits, options, template.answer_column, template.prompt_columns, seed=seed)
    record = text_task(name, options, template, train_rows, listed=listed)
    weights = label_weights(options, record, train_rows)
    loss = text_loss(options, len(tokenizer))
    task = Generation(record, loss, by_chunks=not is_file(options.loss or ""), weighted=weights is not None)

    def prepare_text(rows: Dataset, limits: Limits) -> Prepared:
        return prepare(
            rows,
            template,
            tokenizer,
            max_seq_len=limits.max_seq_len,
            model_max_len=limits.model_max_len,
            allow_truncation=limits.allow_truncation,
            dropped_file=limits.report,
        )

    prepared = _prepare_both(prepare_text, train_rows, validation_rows, limits, template.answer_column, weights)
    return _inputs(splits, options, task, prepared, validation_rows, template=template, recognized=describe(form, template, record.name))


def _sequence_inputs(
    splits: Splits,
    options: FinetuneOptions,
    form: Format | None,
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    limits: Limits,
    *,
    seed: int,
) -> Inputs:
    if form is not None and form.layout.plain is None:
        fix = 'Say how a row becomes text: --text_template "{question} {answer}"'
        raise DataError(f"an encoder-decoder reads a text and writes one; these are {form.name} rows", fix=fix)
    columns = data_columns(splits.train)
    template = choose_template(
        form, columns, tokenizer, text_template=options.text_template, text_field=options.text_field, use_chat_template=False
    )
    splits, listed = written_answers(splits, options, name, template.answer_column)
    train_rows, validation_rows = split_rows(splits, options, template.answer_column, template.prompt_columns, seed=seed)
    record = text_task(name, options, template, train_rows, listed=listed)
    weights = label_weights(options, record, train_rows)
    task = SequenceToSequence(record, template, tokenizer, text_loss(options, len(tokenizer)), weighted=weights is not None)
    prepared = _prepare_both(task.prepare, train_rows, validation_rows, limits, template.answer_column, weights)
    task.record = replace(record, max_seq_len=prepared[0].max_seq_len)
    return _inputs(splits, options, task, prepared, validation_rows, template=template, recognized=describe(form, template, record.name))


def _head_inputs(
    splits: Splits,
    options: FinetuneOptions,
    form: Format,
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    reading: Reading,
    limits: Limits,
    *,
    seed: int,
) -> Inputs:
    columns = columns_of(form, name)
    # RoBERTa has two positions more than it takes tokens; its tokenizer knows
    known = [length for length in (limits.model_max_len, tokenizer.model_max_length) if length is not None]
    limits = replace(limits, model_max_len=min(known))
    train_rows, validation_rows = split_rows(splits, options, columns.label, columns.texts, seed=seed)
    task = cast("type[HeadTask]", TASKS.load(name)).from_rows(columns, train_rows, validation_rows, options, tokenizer, reading)
    prepared = _prepare_both(task.prepare, train_rows, validation_rows, limits)
    task.record = replace(task.record, max_seq_len=prepared[0].max_seq_len)
    recognized = f"recognized as {form.name} rows for {name} with a head"
    return _inputs(splits, options, task, prepared, validation_rows, label_column=columns.label, recognized=recognized)


def _prepare_both(
    prepare_rows: Callable[[Dataset, Limits], Prepared],
    train: Dataset,
    validation: Dataset | None,
    limits: Limits,
    label_column: str | None = None,
    weights: Mapping[str, float] | None = None,
) -> tuple[Prepared, Prepared | None]:
    """Return training rows as token ids, and validation rows cut where those are; both with the weights of their labels, where given."""

    def weighed(prepared: Prepared) -> Prepared:
        return prepared if weights is None or label_column is None else weigh_rows(prepared, label_column, weights)

    prepared = prepare_rows(train, limits)
    if validation is None:
        return weighed(prepared), None
    validated = prepare_rows(validation, Limits(prepared.max_seq_len, limits.model_max_len, allow_truncation=True))
    return weighed(prepared), weighed(validated)


def _inputs(
    splits: Splits,
    options: FinetuneOptions,
    task: Task,
    prepared: tuple[Prepared, Prepared | None],
    validation_rows: Dataset | None,
    *,
    recognized: str,
    template: Template | None = None,
    label_column: str = "",
) -> Inputs:
    """Put everything together; without a template the right answers are in ``label_column``."""
    answers = template.answers if template is not None else lambda row: answer_texts(row.get(label_column))
    train, validation = prepared
    return Inputs(
        train=train,
        validation=validation,
        validation_rows=validation_rows,
        template=template,
        task=task,
        held_out=held_out_rows(splits, validation_rows, answers),
        origin=splits.origin,
        recognized=recognized,
        data_hash=hash_data(splits, options),
    )


def describe(form: Format | None, template: Template, task: str) -> str:
    """Say how the rows were understood, and as which task."""
    how = "the chat template" if template.kind == "chat" else "a text template"
    if form is None:
        return f"rendered by the given template, the answer is '{template.answer_column}' ({task})"
    return f"recognized as {form.name} rows ({task}), rendered by {how}"
