"""``tunesmith data convert``: rows in another format or kind of file."""

from __future__ import annotations

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.data_commands import ConvertOptions, needed
from tunesmith.config.resolve import FLAG, resolve


def run(given: Given, as_json: bool) -> int:
    """Convert, and print the file."""
    from tunesmith import api

    options = resolve(ConvertOptions, [(FLAG, given)]).options
    data_files, output_path = needed("data convert", options.data_files, options.output_path, example="data.csv -o data.jsonl")
    converted = api.convert_data(data_files, output_path, to=options.to, map_columns=options.map_columns, overwrite=options.overwrite)
    if as_json:
        print_json(converted)
    else:
        print("\n".join(converted.words()))
    return 0


COMMAND = Command(
    name="data convert",
    description="Write rows in another format (--to), or in another kind of file, by the ending of --output_path.",
    usage=("tunesmith data convert FILE… -o FILE [options]",),
    options=ConvertOptions,
    run=run,
    words="data_files",
    examples=(
        "tunesmith data convert alpaca.json --to messages -o chat.jsonl",
        "tunesmith data convert data.csv -o data.parquet",
    ),
)
