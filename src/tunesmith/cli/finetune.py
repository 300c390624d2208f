"""``tunesmith finetune``."""

from __future__ import annotations

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_result
from tunesmith.config.finetune import FinetuneOptions


def run(given: Given, as_json: bool) -> int:
    """Fine-tune with the flags as they were written; the options are read and checked by ``api.finetune``."""
    from tunesmith import api

    print_result(api.finetune(**given), as_json=as_json)
    return 0


COMMAND = Command(
    name="finetune",
    summary="fine-tune a model on a file of examples",
    description="Fine-tune a small language model on examples. The shortest form is enough: what isn't said is chosen, and printed.",
    usage=("tunesmith finetune DATA [options]",),
    options=FinetuneOptions,
    run=run,
    positional="data_name",
    examples=(
        "tunesmith finetune data.jsonl",
        "tunesmith finetune -m microsoft/Phi-4-mini-instruct -d data.jsonl --method qlora --num_train_epochs 2 -o out",
        "tunesmith finetune data.jsonl --text_template 'Question: {question}\\nAnswer: {answer}'",
    ),
)
