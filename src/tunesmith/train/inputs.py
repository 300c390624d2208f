"""Everything that training reads, from the options: rows, template, held-out rows, tokens."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.artifact import hash_file
from tunesmith.config.finetune import FinetuneOptions
from tunesmith.data.formats import Format, recognize
from tunesmith.data.prepare import Prepared, prepare
from tunesmith.data.provenance import data_columns
from tunesmith.data.sources import Splits, load_splits
from tunesmith.data.splits import hold_out, is_label
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import Template, choose_template
from tunesmith.errors import UsageError
from tunesmith.models.sources import ModelSource
from tunesmith.train.held_out import held_out_rows
from tunesmith.train.task_choice import text_task

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

VALIDATION_FRACTION = 0.1
# Rows that the choice of a template looks at.
TEMPLATE_ROWS = 50


@dataclass(frozen=True)
class Inputs:
    """What training reads.

    Attributes:
        train, validation: tokenized rows.
        validation_rows: the same rows as they were read, for prompts and references.
        template: how a row becomes text.
        task_record: what the model will do, for ``task.json``.
        held_out: rows that the run does not train on, for the verdict.
        origin: what messages call the data.
        recognized: in words, how the rows were understood.
        data_hash: sha256 of the data.
    """

    train: Prepared
    validation: Prepared | None
    validation_rows: Dataset | None
    template: Template
    task_record: TaskRecord
    held_out: Dataset | None
    origin: str
    recognized: str
    data_hash: str

    @property
    def task(self) -> str:
        """What the rows are for."""
        return self.task_record.name

    def sample_rows(self, count: int) -> list[dict[str, Any]]:
        """Return up to ``count`` validation rows, spread evenly."""
        rows = self.validation_rows
        if rows is None or not count:
            return []
        step = max(1, len(rows) // count)
        return [dict(rows[index]) for index in range(0, len(rows), step)][:count]

    def reference(self, row: dict[str, Any]) -> str:
        """Return the first answer that a row holds."""
        return next(iter(self.template.answers(row)), "").strip()


def read_inputs(
    options: FinetuneOptions, source: ModelSource, tokenizer: PreTrainedTokenizerBase, *, model_max_len: int | None, seed: int, report: Path
) -> Inputs:
    """Read and tokenize the data.

    Args:
        options: of the run.
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
    columns = data_columns(splits.train)
    form = None if options.text_template or options.text_field else recognize(splits.train, origin=splits.origin)
    template = choose_template(
        form,
        columns,
        tokenizer,
        text_template=options.text_template,
        text_field=options.text_field,
        use_chat_template=options.use_chat_template,
        chat_template=options.chat_template,
        train_on_prompt=options.train_on_prompt,
        rows=[splits.train[index] for index in range(min(TEMPLATE_ROWS, len(splits.train)))],
    )
    train_rows, validation_rows = split_rows(splits, options, template, seed=seed)
    train = prepare(
        train_rows,
        template,
        tokenizer,
        max_seq_len=options.max_seq_len,
        model_max_len=model_max_len,
        allow_truncation=options.allow_truncation,
        dropped_file=report,
    )
    validation = None
    if validation_rows is not None:
        validation = prepare(
            validation_rows, template, tokenizer, max_seq_len=train.max_seq_len, model_max_len=model_max_len, allow_truncation=True
        )
    return Inputs(
        train=train,
        validation=validation,
        validation_rows=validation_rows,
        template=template,
        task_record=text_task(options.task, template, train_rows),
        held_out=held_out_rows(splits, validation_rows, template),
        origin=splits.origin,
        recognized=describe(form, template),
        data_hash=hash_data(splits, options),
    )


def split_rows(splits: Splits, options: FinetuneOptions, template: Template, *, seed: int) -> tuple[Dataset, Dataset | None]:
    """Return training and validation rows: the data's own validation rows, or some held out of the training rows."""
    if splits.validation is not None:
        if options.validation_fraction is not None:
            raise UsageError(
                "--validation_fraction holds rows out, but the data has validation rows of its own",
                fix="Leave it out, or name --train_split alone.",
            )
        return splits.train, splits.validation
    fraction = VALIDATION_FRACTION if options.validation_fraction is None else options.validation_fraction
    if fraction == 0 or len(splits.train) < 2:
        return splits.train, None
    answer = template.answer_column
    return hold_out(
        splits.train,
        fraction=fraction,
        label_column=answer if answer and is_label(splits.train, answer) else None,
        text_columns=template.prompt_columns or None,
        seed=seed,
    )


def describe(form: Format | None, template: Template) -> str:
    """Say how the rows were understood."""
    how = "the chat template" if template.kind == "chat" else "a text template"
    if form is None:
        return f"rendered by the given template, the answer is '{template.answer_column}'"
    return f"recognized as {form.name} rows ({form.task}), rendered by {how}"


def hash_data(splits: Splits, options: FinetuneOptions) -> str:
    """Return a sha256 of the files that were read, or of what identifies data without local files."""
    digest = hashlib.sha256()
    for file in splits.files:
        digest.update(hash_file(Path(file)).encode())
    if not splits.files:
        digest.update(repr((options.data_name, options.train_subset, len(splits.train), splits.train[0])).encode())
    return digest.hexdigest()
