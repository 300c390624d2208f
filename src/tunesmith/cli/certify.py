"""``tunesmith certify``: whether an exported folder is still the model that it was made from."""

from __future__ import annotations

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.certify import TOLERANCE_NAMES, CertifyOptions
from tunesmith.config.resolve import FLAG, resolve
from tunesmith.errors import ConfigError


def run(given: Given, as_json: bool) -> int:
    """Score both, print the table, and fail where something was lost."""
    from tunesmith import api

    options = resolve(CertifyOptions, [(FLAG, given)]).options
    if options.exported is None or options.model_name_or_path is None:
        raise ConfigError(["the exported folder and what it was exported from are needed"], fix="For example: tunesmith certify EXPORT RUN")
    found = api.certify(
        options.exported,
        options.model_name_or_path,
        adapter_path=options.adapter_path,
        revision=options.revision,
        token=options.token,
        trust_remote_code=options.trust_remote_code,
        data_files=options.data_files,
        max_rows=options.limit,
        tolerances={name: getattr(options, name) for name in TOLERANCE_NAMES},
    )
    if as_json:
        print_json(found.to_dict())
    else:
        print(found.table())
    found.check()
    return 0


COMMAND = Command(
    name="certify",
    description="Score an exported folder beside the model that it was made from, and fail where more was lost than the tolerances allow.",
    usage=("tunesmith certify FOLDER MODEL [options]",),
    options=CertifyOptions,
    run=run,
    positionals={1: ("exported",), 2: ("exported", "model_name_or_path")},
    examples=("tunesmith certify onnx out", "tunesmith certify onnx out --data_files test.jsonl --task_drop 0.02"),
)
