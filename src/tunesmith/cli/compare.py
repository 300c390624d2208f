"""``tunesmith compare``: which of two models is better on the same rows, and how certain that is."""

from __future__ import annotations

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.compare import CompareOptions
from tunesmith.config.resolve import FLAG, resolve
from tunesmith.errors import ConfigError


def run(given: Given, as_json: bool) -> int:
    """Let both models answer, and print the verdict."""
    from tunesmith import api

    options = resolve(CompareOptions, [(FLAG, given)]).options
    models, files = options.models or (), options.data_files or ()
    problems = []
    if len(models) != 2:
        problems.append(f"two models are compared, {len(models)} {'is' if len(models) == 1 else 'are'} named")
    if not files:
        problems.append("--data_files is needed")
    if problems:
        raise ConfigError(problems, fix="For example: tunesmith compare BASE RUN --data_files test.jsonl")
    verdict = api.compare(
        *models,
        data_files=files,
        max_samples=options.max_samples,
        map_columns=options.map_columns,
        metric=options.metric,
        max_new_tokens=options.max_new_tokens,
        seed=options.seed,
        dtype=options.torch_dtype,
        device=options.device,
        trust_remote_code=options.trust_remote_code,
    )
    if as_json:
        print_json(verdict.to_dict())
    else:
        print("\n".join(verdict.words))
    return 0


COMMAND = Command(
    name="compare",
    description="Let two models answer the same rows, and say whether the second is better than the first, with a 95% interval.",
    usage=("tunesmith compare FIRST SECOND --data_files FILE [options]",),
    options=CompareOptions,
    run=run,
    words="models",
    examples=(
        "tunesmith compare sample:smollm2-135m out --data_files test.jsonl",
        "tunesmith compare run-1 run-2 --data_files test.jsonl --json",
    ),
)
