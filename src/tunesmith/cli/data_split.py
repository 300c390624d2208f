"""``tunesmith data split``: rows into training, validation and test files."""

from __future__ import annotations

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.data_commands import SplitOptions, needed
from tunesmith.config.resolve import FLAG, resolve


def run(given: Given, as_json: bool) -> int:
    """Divide, and print the files."""
    from tunesmith import api

    options = resolve(SplitOptions, [(FLAG, given)]).options
    data_files, output_path = needed("data split", options.data_files, options.output_path, example="data.jsonl -o FOLDER")
    divided = api.split_data(
        data_files,
        output_path,
        validation_fraction=options.validation_fraction,
        test_fraction=options.test_fraction,
        group_by=options.group_by,
        time_by=options.time_by,
        stratify_by=options.stratify_by,
        text_template=options.text_template,
        map_columns=options.map_columns,
        file_type=options.file_type,
        seed=options.seed,
        overwrite=options.overwrite,
    )
    if as_json:
        print_json(divided)
    else:
        print("\n".join(divided.words()))
    return 0


COMMAND = Command(
    name="data split",
    description="Divide rows into the files train, validation and test of a folder: labels spread alike, no text on two sides, whole "
    "groups where there are any, or by time.",
    usage=("tunesmith data split FILE… -o FOLDER [options]",),
    options=SplitOptions,
    run=run,
    words="data_files",
    examples=(
        "tunesmith data split data.jsonl -o parts --test_fraction 0.2",
        "tunesmith data split data.jsonl -o parts --group_by user",
        "tunesmith data split data.jsonl -o parts --time_by date",
    ),
)
