"""``tunesmith generate``: one prompt, or a file of them to JSON lines."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import json_line, open_output
from tunesmith.config.generate import GenerateOptions, SamplingOptions
from tunesmith.config.resolve import FLAG, resolve
from tunesmith.errors import DataError, UsageError

if TYPE_CHECKING:
    from tunesmith.runtime.protocol import Runtime

log = logging.getLogger(__name__)

# Rows answered between two writes to the result: enough for the runtime to batch rows of like length.
ROWS_AT_ONCE = 64


def run(given: Given, as_json: bool) -> int:
    """Answer and print."""
    options = resolve(GenerateOptions, [(FLAG, given)]).options
    if options.data_files is not None:
        answer_file(options)
        return 0
    prompt = read_prompt(options)
    schema = read_schema(options)
    runtime = held(load_runtime(options), options, schema)
    with open_output(options.output_path, overwrite=options.overwrite) as file:
        if as_json:
            file.write(answer_lines(runtime, [prompt], [{"prompt": prompt}], options)[0])
        else:
            for piece in runtime.stream(prompt, **sampling(options)):
                file.write(piece)
                file.flush()
            file.write("\n")
    return 0


def read_prompt(options: GenerateOptions) -> str:
    """Return the one prompt: the argument, or standard input when there is none or it is ``-``.

    Raises:
        UsageError: when there is no prompt, or an option is given that speaks of a file of prompts.
    """
    idle = [name for name in ("text_field", "max_samples", "batch_size") if getattr(options, name) is not None]
    if idle:
        raise UsageError(f"{', '.join(f'--{name}' for name in idle)} speaks of --data_files, and there are none")
    if options.prompt not in (None, "-"):
        return str(options.prompt)
    if options.prompt is None and sys.stdin.isatty():
        raise UsageError("there is no prompt", fix='Give one: tunesmith generate -m MODEL "…", or --data_files FILE, or standard input.')
    text = sys.stdin.read().rstrip("\n")
    if not text.strip():
        raise UsageError("the prompt on standard input is empty")
    return text


def answer_file(options: GenerateOptions) -> None:
    """Answer every row of the files; a line of JSON with the row's columns, ``generated``, ``stopped`` and ``num_tokens`` for each."""
    if options.prompt is not None:
        raise UsageError(
            f"a prompt ('{options.prompt}') and --data_files are given",
            fix="Give one of them; a model is named with -m.",
        )
    from tunesmith import api

    assert options.data_files is not None
    with open_output(options.output_path, overwrite=options.overwrite) as file:
        batches = chunks(api.read_rows(options.data_files, max_samples=options.max_samples), ROWS_AT_ONCE)
        rows = next(batches, [])
        prompts = [prompt_of(row, options.text_field) for row in rows]
        schema = read_schema(options)
        runtime = held(load_runtime(options), options, schema)  # not before a wrong file or column would have been found
        num_answered = 0
        while rows:
            file.writelines(answer_lines(runtime, prompts, rows, options))
            file.flush()
            num_answered += len(rows)
            log.info("%d answers", num_answered)
            rows = next(batches, [])
            prompts = [prompt_of(row, options.text_field) for row in rows]


def prompt_of(row: Mapping[str, Any], text_field: str | None) -> Any:
    """Return what of a row is the prompt: the named column, its only column, or all of it for the template to choose from.

    Raises:
        DataError: when there is no column ``text_field``.
    """
    if text_field is not None and text_field not in row:
        raise DataError(f"a row has no column '{text_field}'; it has: {', '.join(row)}")
    if text_field is not None:
        return row[text_field]
    only = next(iter(row.values())) if len(row) == 1 else None
    return only if isinstance(only, str) else row


def answer_lines(runtime: Runtime, prompts: list[Any], rows: Iterable[Mapping[str, Any]], options: GenerateOptions) -> list[str]:
    """Answer prompts together; returns the rows with their answers as lines of JSON."""
    answers = runtime.generate(prompts, batch_size=options.batch_size, **sampling(options))
    return [
        json_line({**row, "generated": answer.text, "stopped": answer.stopped, "num_tokens": answer.num_tokens})
        for row, answer in zip(rows, answers, strict=True)
    ]


def chunks(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    """Yield the rows in lists of ``size``, the last one shorter."""
    remaining = iter(rows)
    while chunk := list(itertools.islice(remaining, size)):
        yield chunk


def load_runtime(options: SamplingOptions) -> Runtime:
    """Load the model, and its adapter, that the options name."""
    from tunesmith import api

    return api.load(options.model_name_or_path, **load_options(options))


def read_schema(options: GenerateOptions) -> Mapping[str, Any] | None:
    """Return the schema that ``--answer_schema`` names, None without one.

    Raises:
        UsageError: when it can't be read, answers can't be held to it, or --no-constrain is given too.
    """
    if options.answer_schema is None:
        return None
    if not options.constrain:
        raise UsageError("--answer_schema holds answers to a schema, --no-constrain to none", fix="Give one of them.")
    from tunesmith import api

    return api.read_schema(options.answer_schema)


def held(runtime: Runtime, options: GenerateOptions, schema: Mapping[str, Any] | None) -> Runtime:
    """Return the runtime with its answers held to what the options say."""
    return runtime if schema is None and options.constrain else runtime.with_schema(schema)


def load_options(options: SamplingOptions) -> dict[str, Any]:
    """Return the options of loading as the Python interface takes them."""
    names = ("adapter_path", "revision", "token", "device", "trust_remote_code", "threads")
    return {"dtype": options.torch_dtype, **{name: getattr(options, name) for name in names}}


def sampling(options: SamplingOptions) -> dict[str, Any]:
    """Return the options of sampling as a runtime takes them."""
    return {name: getattr(options, name) for name in ("max_new_tokens", "temperature", "top_p", "seed")}


COMMAND = Command(
    name="generate",
    description="Let a model answer a prompt, or a file of prompts, with the template and the stop tokens it was trained with.",
    usage=("tunesmith generate [MODEL] PROMPT [options]", "tunesmith generate -m MODEL --data_files FILE [options]"),
    options=GenerateOptions,
    run=run,
    positionals={1: ("prompt",), 2: ("model_name_or_path", "prompt")},
    examples=(
        'tunesmith generate out "Where is my parcel?"',
        "tunesmith generate -m out/model -a out/adapter --data_files test.jsonl -o answers.jsonl",
        "echo 'Tell me a story.' | tunesmith generate -m out --temperature 0.8 --seed 1",
    ),
)
