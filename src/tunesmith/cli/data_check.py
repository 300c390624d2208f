"""``tunesmith data check``: what is wrong with data, by file and line."""

from __future__ import annotations

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.data_commands import CheckOptions
from tunesmith.config.resolve import FLAG, resolve

#: Exit status when the data is not in order.
NOT_IN_ORDER = 2


def run(given: Given, as_json: bool) -> int:
    """Examine and print; 0 when the data is in order, 2 when it has errors (with ``--strict``: or warnings)."""
    from tunesmith import api

    options = resolve(CheckOptions, [(FLAG, given)]).options
    report = api.check_data(
        options.data_files or (),
        test_files=options.test_files or (),
        checks=options.checks,
        text_template=options.text_template,
        text_field=options.text_field,
        map_columns=options.map_columns,
        model_name_or_path=options.model_name_or_path,
        revision=options.revision,
        token=options.token,
        trust_remote_code=options.trust_remote_code,
        max_seq_len=options.max_seq_len,
        phone_region=options.phone_region,
    )
    if as_json:
        print_json({**report.to_dict(), "in_order": not report.failed(strict=options.strict)})
    else:
        print("\n".join(report.words(strict=options.strict)))
    return NOT_IN_ORDER if report.failed(strict=options.strict) else 0


COMMAND = Command(
    name="data check",
    description="Find what is wrong with training data, by file and line: rows that can't be read, are empty, there twice, contradict each "
    "other, give the test away, were cut, hold a template's tokens, secrets or personal data. Exit status 0: in order, 2: errors.",
    usage=("tunesmith data check FILE… [--test_files FILE…] [options]",),
    options=CheckOptions,
    run=run,
    words="data_files",
    examples=(
        "tunesmith data check train.jsonl --test_files test.jsonl",
        "tunesmith data check train.jsonl -m microsoft/Phi-4-mini-instruct --max_seq_len 1024",
        "tunesmith data check train.jsonl --strict --json",
    ),
)
