"""``tunesmith merge``: base and adapter become one plain model folder."""

from __future__ import annotations

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.generate import MergeOptions
from tunesmith.config.resolve import FLAG, resolve
from tunesmith.errors import ConfigError


def run(given: Given, as_json: bool) -> int:
    """Merge, and print the folder."""
    from tunesmith import api

    options = resolve(MergeOptions, [(FLAG, given)]).options
    missing = [f"--{name} is needed" for name in ("model_name_or_path", "output_path") if getattr(options, name) is None]
    if missing:
        raise ConfigError(missing, fix="For example: tunesmith merge -m RUN -o FOLDER")
    folder = api.merge(
        str(options.model_name_or_path),
        str(options.output_path),
        adapter_path=options.adapter_path,
        revision=options.revision,
        token=options.token,
        trust_remote_code=options.trust_remote_code,
        overwrite=options.overwrite,
    )
    if as_json:
        print_json({"output_path": folder})
    else:
        print(f"Model: {folder}")
    return 0


COMMAND = Command(
    name="merge",
    description="Put an adapter into the weights of its model, computed in float32, and write one plain model folder.",
    usage=("tunesmith merge -m RUN -o FOLDER [options]", "tunesmith merge -m MODEL -a ADAPTER -o FOLDER [options]"),
    options=MergeOptions,
    run=run,
    positionals={1: ("model_name_or_path",)},
    examples=("tunesmith merge out -o merged", "tunesmith merge -m microsoft/Phi-4-mini-instruct -a out/adapter -o merged"),
)
