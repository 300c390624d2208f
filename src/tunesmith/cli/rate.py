"""``tunesmith rate``: people compare the answers of models, blind, on a local page."""

from __future__ import annotations

import sys

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.rate import RateOptions
from tunesmith.config.resolve import FLAG, Resolved, resolve
from tunesmith.errors import UsageError


def run(given: Given, as_json: bool) -> int:
    """Serve the page until Ctrl-C and print the result; or print the result so far."""
    from tunesmith import api

    resolved = resolve(RateOptions, [(FLAG, given)])
    if resolved.options.summary:
        return _summarize(resolved, as_json)
    values = {
        name: getattr(resolved.options, name) for name in RateOptions.model_fields if name not in ("output_path", "summary", "torch_dtype")
    }
    ready = _print_link_as_json if as_json else _print_link
    result = api.rate(resolved.options.output_path, dtype=resolved.options.torch_dtype, ready=ready, **values)
    if as_json:
        print_json(None if result is None else result.to_dict())
    else:
        print(*(("Nobody has rated yet.",) if result is None else result.words), sep="\n")
    return 0


def _summarize(resolved: Resolved[RateOptions], as_json: bool) -> int:
    """Print the result so far, and where everything was exported to.

    Raises:
        UsageError: for options that have no effect here.
    """
    from tunesmith import api

    idle = sorted(resolved.explicit - {"summary", "output_path"})
    if idle:
        raise UsageError(f"{', '.join(f'--{name}' for name in idle)} has no effect with --summary", fix="Leave it out")
    summary, exported = api.rating_summary(resolved.options.output_path)
    if as_json:
        print_json({**summary.to_dict(), "export": exported})
    else:
        print(*summary.words, f"Everything, a line a prompt: {exported}", sep="\n")
    return 0


def _print_link(link: str) -> None:
    """Print where to rate, at once, also into a pipe."""
    print(f"Rate here: {link}", flush=True)


def _print_link_as_json(link: str) -> None:
    print_json({"link": link})
    sys.stdout.flush()


COMMAND = Command(
    name="rate",
    description="Let people compare the answers of models, blind and shuffled, on a local page that is worked with the keyboard.",
    usage=(
        "tunesmith rate --data_files FILE --models A,B [options]",
        "tunesmith rate --answers FILE,FILE [options]",
        "tunesmith rate -o FOLDER [--summary]",
    ),
    options=RateOptions,
    run=run,
    examples=(
        "tunesmith rate --data_files prompts.jsonl --models base,out",
        "tunesmith rate --answers out/predictions_base.jsonl,out/predictions.jsonl --models base,tuned",
        "tunesmith rate -o ratings --summary",
    ),
)
