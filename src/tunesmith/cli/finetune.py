"""``tunesmith finetune``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.finetune import FinetuneOptions

if TYPE_CHECKING:
    from tunesmith.train.results import FinetuneResult


def run(given: Given, as_json: bool) -> int:
    """Fine-tune with the flags as they were written; ``api.finetune`` reads them."""
    from tunesmith import api

    result = api.finetune(**given)
    if as_json:
        print_json(result)
    else:
        print("\n".join(report(result)))
    return 0


def report(result: FinetuneResult) -> list[str]:
    """Return what a person reads at the end of a run: answers before and after, how it went, and where everything is."""
    lines = []
    for example in result.examples:
        lines += [f"Prompt:   {_one_line(example.prompt)}", f"  wanted: {_one_line(example.reference)}"]
        lines += [f"  before: {_one_line(example.before)}", f"  after:  {_one_line(example.after)}", ""]
    lines += [*result.words, ""]
    if result.verdict:
        lines += [*(str(line) for line in result.verdict["words"]), ""]
    if result.adapter_path is not None:
        lines.append(f"Adapter: {result.adapter_path}")
    lines.append(f"Model:   {result.model_path}")
    if result.report_path is not None:
        lines.append(f"Report:  {result.report_path}")
    folder = shlex.quote(str(result.output_path))
    if result.verdict:
        lines.append(f"Next: {result.verdict['advice']}")
    elif result.writes_text:
        lines.append(f"Talk to it: tunesmith chat {folder}")
    else:
        lines.append(f'Ask it: tunesmith generate -m {folder} "…"')
    return lines


def _one_line(text: str, most: int = 300) -> str:
    """Return text with its line breaks shown as a sign, shortened in the middle."""
    line = " ⏎ ".join(part for part in text.strip().splitlines() if part.strip())
    return line if len(line) <= most else f"{line[: most // 2]} … {line[-most // 2 :]}"


COMMAND = Command(
    name="finetune",
    description="Fine-tune a small language model on examples. The shortest form is enough: what isn't said is chosen, and printed.",
    usage=("tunesmith finetune DATA [options]",),
    options=FinetuneOptions,
    run=run,
    positionals={1: ("data_name",)},
    examples=(
        "tunesmith finetune data.jsonl",
        "tunesmith finetune data.jsonl --text_template 'Question: {question}\\nAnswer: {answer}'",
        "tunesmith finetune -m microsoft/Phi-4-mini-instruct -d data.jsonl --method qlora -o out",
        "tunesmith finetune sample:tones --num_train_epochs 2 --learning_rate 5e-4",
    ),
)
