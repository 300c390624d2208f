"""The first rows of files as a model will see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.data.doctor.inputs import existing
from tunesmith.data.formats import recognize
from tunesmith.data.json_answers import with_json_answers
from tunesmith.data.label_lists import has_label_lists, known_labels, with_label_lists
from tunesmith.data.named_rows import is_named
from tunesmith.data.prepare import prepare
from tunesmith.data.preview import show_examples
from tunesmith.data.provenance import data_columns
from tunesmith.data.sources import Splits, load_splits
from tunesmith.data.templates import choose_template
from tunesmith.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Rows that the choice of a template looks at, as in training.
TEMPLATE_ROWS = 50


@dataclass(frozen=True)
class Preview:
    """Rows as a model sees them.

    Attributes:
        text: for people: each example with what nothing is learnt from in brackets, or dimmed.
        num_examples, num_tokens, num_learnt: what is shown, and how many of its tokens the loss is on.
        stop_tokens: what ends an answer.
    """

    text: str
    num_examples: int
    num_tokens: int
    num_learnt: int
    stop_tokens: tuple[str, ...]


def read_splits(names: Sequence[str], *, map_columns: Mapping[str, str] | None = None, token: str | None = None) -> Splits:
    """Read rows for a preview: of files, or of one ``sample:NAME`` or hub id.

    Raises:
        UserError: for what can't be read, and for several names of which one is no file.
    """
    named = next((name for name in names if is_named(name)), None)
    if named is None:
        return load_splits(data_files=[str(existing(name)) for name in names], map_columns=map_columns)
    if len(names) > 1:
        raise UsageError(f"{named} is no file and can't be shown together with other data", fix="Name it alone")
    return load_splits(data_name=named, map_columns=map_columns, token=token)


def preview_rows(
    splits: Splits,
    tokenizer: PreTrainedTokenizerBase,
    *,
    num_rows: int = 3,
    text_template: str | None = None,
    text_field: str | None = None,
    use_chat_template: bool | None = None,
    chat_template: str | None = None,
    train_on_prompt: bool = False,
    max_seq_len: int | None = None,
    color: bool = False,
) -> Preview:
    """Render and tokenize the first rows, by the choices that training would make.

    Args:
        splits: the data.
        tokenizer: of the model.
        num_rows: how many.
        text_template, text_field, use_chat_template, chat_template, train_on_prompt: as for training.
        max_seq_len: where rows are cut.
        color: dim what nothing is learnt from, for terminals; otherwise it stands in brackets.

    Raises:
        UserError: for rows or a template that can't be used.
    """
    form = None if text_template or text_field else recognize(splits.train, origin=splits.origin)
    template = choose_template(
        form,
        data_columns(splits.train),
        tokenizer,
        text_template=text_template,
        text_field=text_field,
        use_chat_template=use_chat_template,
        chat_template=chat_template,
        train_on_prompt=train_on_prompt,
        rows=[splits.train[index] for index in range(min(TEMPLATE_ROWS, len(splits.train)))],
    )
    rows = splits.train.select(range(min(num_rows, len(splits.train))))
    column = template.answer_column
    if form is not None and form.task == "extraction" and column is not None:
        rows = with_json_answers(rows, column)
    elif form is not None and form.task == "text-classification" and column is not None and has_label_lists(splits.train, column):
        rows = with_label_lists(rows, column, known_labels(splits.train[column]))
    prepared = prepare(rows, template, tokenizer, max_seq_len=max_seq_len, allow_truncation=True, cache=False)
    text = show_examples(prepared, tokenizer, len(prepared.dataset), color=color)
    return Preview(text, len(prepared.dataset), prepared.num_tokens, prepared.num_supervised, template.stop_tokens)
