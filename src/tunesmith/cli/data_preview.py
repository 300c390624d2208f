"""``tunesmith data preview``: rows as the model will see them."""

from __future__ import annotations

import sys

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.data_commands import PreviewOptions, needed
from tunesmith.config.resolve import FLAG, resolve


def run(given: Given, as_json: bool) -> int:
    """Render and tokenize some rows, and print them."""
    from tunesmith import api

    options = resolve(PreviewOptions, [(FLAG, given)]).options
    (data_files,) = needed("data preview", options.data_files, example="data.jsonl")
    preview = api.preview_data(
        data_files,
        model_name_or_path=options.model_name_or_path,
        revision=options.revision,
        token=options.token,
        trust_remote_code=options.trust_remote_code,
        num_rows=options.num_rows,
        text_template=options.text_template,
        text_field=options.text_field,
        map_columns=options.map_columns,
        use_chat_template=options.use_chat_template,
        chat_template=options.chat_template,
        train_on_prompt=options.train_on_prompt,
        max_seq_len=options.max_seq_len,
        color=sys.stdout.isatty() and not as_json,
    )
    if as_json:
        print_json(preview)
    else:
        print(preview.text)
    return 0


COMMAND = Command(
    name="data preview",
    description="Show rows exactly as the model will see them; what nothing is learnt from stands in [brackets], or is dimmed in a "
    "terminal.",
    usage=("tunesmith data preview FILE [-m MODEL] [options]",),
    options=PreviewOptions,
    run=run,
    words="data_files",
    examples=(
        "tunesmith data preview data.jsonl",
        "tunesmith data preview data.jsonl -m microsoft/Phi-4-mini-instruct -n 1",
    ),
)
