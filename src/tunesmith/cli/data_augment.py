"""``tunesmith data augment``: more training rows by small changes."""

from __future__ import annotations

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.data_commands import AugmentOptions, needed
from tunesmith.config.resolve import FLAG, resolve


def run(given: Given, as_json: bool) -> int:
    """Augment, and print what was made."""
    from tunesmith import api

    options = resolve(AugmentOptions, [(FLAG, given)]).options
    data_files, output_path = needed("data augment", options.data_files, options.output_path, example="train.jsonl -o more.jsonl")
    augmented = api.augment_data(
        data_files,
        output_path,
        kinds=options.kinds,
        num_copies=options.num_copies,
        synonyms_file=options.synonyms_file,
        paraphrase_model=options.paraphrase_model,
        test_files=options.test_files or (),
        map_columns=options.map_columns,
        seed=options.seed,
        overwrite=options.overwrite,
    )
    if as_json:
        print_json(augmented)
    else:
        print("\n".join(augmented.words()))
    return 0


COMMAND = Command(
    name="data augment",
    description="Write training rows and variations of them: casing, typos, punctuation, dropped fillers, synonyms of a list of yours, "
    'paraphrases of a local model. The answer stays; each row that was made says so in the column "augmented".',
    usage=("tunesmith data augment FILE… -o FILE [options]",),
    options=AugmentOptions,
    run=run,
    words="data_files",
    examples=(
        "tunesmith data augment train.jsonl -o more.jsonl --kinds typos,casing",
        "tunesmith data augment train.jsonl -o more.jsonl --paraphrase_model sample:smollm2-135m",
    ),
)
