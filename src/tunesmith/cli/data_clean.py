"""``tunesmith data clean``: mend rows, and take out those that can't be mended."""

from __future__ import annotations

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.data_commands import CleanOptions, needed
from tunesmith.config.resolve import FLAG, resolve


def run(given: Given, as_json: bool) -> int:
    """Clean, and print what was done."""
    from tunesmith import api

    options = resolve(CleanOptions, [(FLAG, given)]).options
    data_files, output_path = needed("data clean", options.data_files, options.output_path, example="data.jsonl -o clean.jsonl")
    cleaned = api.clean_data(
        data_files,
        output_path,
        test_files=options.test_files or (),
        conflicts=options.conflicts,
        text_template=options.text_template,
        text_field=options.text_field,
        map_columns=options.map_columns,
        overwrite=options.overwrite,
    )
    if as_json:
        print_json(cleaned)
    else:
        print("\n".join(cleaned.words()))
    return 0


COMMAND = Command(
    name="data clean",
    description="Write rows anew: encodings, blanks and spellings of labels mended; copies, empty rows and contradictions taken out. "
    "What is taken out goes to NAME.removed.jsonl, with the reason.",
    usage=("tunesmith data clean FILE… -o FILE [options]",),
    options=CleanOptions,
    run=run,
    words="data_files",
    examples=("tunesmith data clean train.jsonl -o clean.jsonl --test_files test.jsonl",),
)
