"""``tunesmith bench``: how fast artifacts read and write, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.bench import BenchOptions
from tunesmith.config.resolve import FLAG, resolve
from tunesmith.errors import ConfigError

if TYPE_CHECKING:
    from tunesmith.evaluate.bench import BenchResult

_ROWS: tuple[tuple[str, Callable[[BenchResult], float | None]], ...] = (
    ("size, MB", lambda found: found.size_mb),
    ("loading, s", lambda found: found.load_s),
    ("memory, MiB", lambda found: found.memory_mib),
    ("prefill, tokens/s", lambda found: found.prefill_tokens_per_s),
    ("decode, tokens/s", lambda found: found.decode_tokens_per_s),
    ("first token, ms, median", lambda found: found.first_token_ms["p50"]),
    ("first token, ms, 90 %", lambda found: found.first_token_ms["p90"]),
    ("first token, ms, longest", lambda found: found.first_token_ms["max"]),
    ("each token, ms, median", lambda found: found.token_ms.get("p50")),
    ("each token, ms, 90 %", lambda found: found.token_ms.get("p90")),
    ("each token, ms, 99 %", lambda found: found.token_ms.get("p99")),
)


def run(given: Given, as_json: bool) -> int:
    """Measure, and print a table."""
    from tunesmith import api

    options = resolve(BenchOptions, [(FLAG, given)]).options
    if not options.artifacts:
        raise ConfigError(["there is nothing to measure"], fix="For example: tunesmith bench int4 run")
    found = api.bench(
        list(options.artifacts),
        prompt_tokens=options.prompt_tokens,
        new_tokens=options.new_tokens,
        repeats=options.repeats,
        threads=options.threads,
        trust_remote_code=options.trust_remote_code,
    )
    if as_json:
        print_json(found)
    else:
        _print_table(found)
        print(f"\n{options.prompt_tokens} tokens of prompt, {options.new_tokens} of answer, one row, {options.repeats} times in turn.")
    return 0


def _print_table(found: Sequence[BenchResult]) -> None:
    cells = [["", *(one.path for one in found)], ["run by", *(one.kind for one in found)]]
    cells += [[name, *(_shown(value(one)) for one in found)] for name, value in _ROWS]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for name, *values in cells:
        print("  ".join([name.ljust(widths[0]), *(value.rjust(width) for value, width in zip(values, widths[1:], strict=True))]))


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}" if value < 10 else f"{value:,.1f}"


COMMAND = Command(
    name="bench",
    description="Measure how fast artifacts read prompts and write answers, how long they load and what memory they take, side by side.",
    usage=("tunesmith bench ARTIFACT... [options]",),
    options=BenchOptions,
    run=run,
    words="artifacts",
    examples=("tunesmith bench int4", "tunesmith bench out int4 gguf --prompt_tokens 512 --new_tokens 128"),
)
