"""Artifacts side by side: each in a process of its own, repetitions in turn, so that a busy moment of the machine hits all of them."""

from __future__ import annotations

import contextlib
import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.errors import UsageError
from tunesmith.evaluate.measured_process import Loaded, MeasuredProcess
from tunesmith.evaluate.pace import Pace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchResult:
    """What was measured of one artifact; of several repetitions the median.

    Attributes:
        path: of the artifact.
        kind: what ran it: ``torch``, ``onnx``, ``gguf``.
        size_mb: of its files (PyTorch: of the weights in memory), in MB.
        load_s: seconds until it could answer, without importing Python's libraries.
        memory_mib: the most memory that it took beyond Python and its libraries.
        prompt_tokens, new_tokens, num_repeats: what was asked.
        prefill_tokens_per_s: tokens of the prompt read in a second.
        decode_tokens_per_s: tokens written in a second, one row; None for a model that isn't asked token by token.
        first_token_ms: percentile -> milliseconds until the first token: ``p50``, ``p90``, ``max``.
        token_ms: percentile -> milliseconds for each further token: ``p50``, ``p90``, ``p99``.
    """

    path: str
    kind: str
    size_mb: float | None
    load_s: float
    memory_mib: float
    prompt_tokens: int
    new_tokens: int
    num_repeats: int
    prefill_tokens_per_s: float
    decode_tokens_per_s: float | None
    first_token_ms: dict[str, float]
    token_ms: dict[str, float]


def bench(
    paths: Sequence[str],
    *,
    prompt_tokens: int = 256,
    new_tokens: int = 64,
    repeats: int = 5,
    threads: int | None = None,
    trust_remote_code: bool = False,
) -> list[BenchResult]:
    """Measure artifacts: anything that `tunesmith.runtime.load.load` takes.

    All are in memory at once. One repetition of each comes before those that are counted.

    Args:
        paths: of the artifacts.
        prompt_tokens: read in each repetition.
        new_tokens: written behind them.
        repeats: of each artifact.
        threads: of the CPU, for all of them; by default as many as there are physical cores.
        trust_remote_code: run Python code that comes with a model.

    Raises:
        UserError: for an artifact that can't be loaded, or has no room for so many tokens.
    """
    if not paths:
        raise UsageError("there is nothing to measure", fix="Name the artifacts: tunesmith bench FOLDER FOLDER")
    with contextlib.ExitStack() as stack:
        loaded: list[tuple[MeasuredProcess, Loaded]] = []
        for path in paths:
            process = stack.enter_context(
                MeasuredProcess(
                    path, prompt_tokens=prompt_tokens, new_tokens=new_tokens, threads=threads, trust_remote_code=trust_remote_code
                )
            )
            loaded.append((process, process.loaded()))
            log.info("%s is loaded.", path)
        paces = in_turn([process for process, _ in loaded], repeats)
    return [
        _result(process.path, one, found, prompt_tokens=prompt_tokens, new_tokens=new_tokens)
        for (process, one), found in zip(loaded, paces, strict=True)
    ]


def in_turn(processes: Sequence[MeasuredProcess], repeats: int) -> list[list[Pace]]:
    """Return the repetitions of each process: all take turns, and a first round warms them up."""
    rounds = []
    for number in range(repeats + 1):
        rounds.append([process.repeat(number) for process in processes])
        if number:
            log.info("Round %d of %d", number, repeats)
    return [[one[place] for one in rounds[1:]] for place in range(len(processes))]


def _result(path: str, loaded: Loaded, paces: Sequence[Pace], *, prompt_tokens: int, new_tokens: int) -> BenchResult:
    prefill = sorted(pace.prefill_s for pace in paces)
    tokens = sorted(seconds for pace in paces for seconds in pace.token_s)
    totals = [sum(pace.token_s) for pace in paces if pace.token_s]
    return BenchResult(
        path=path,
        kind=loaded.kind,
        size_mb=loaded.size_mb,
        load_s=loaded.load_s,
        memory_mib=max([loaded.rss_mib, *(pace.rss_mib for pace in paces)]),
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens if totals else 0,
        num_repeats=len(paces),
        prefill_tokens_per_s=prompt_tokens / statistics.median(prefill),
        decode_tokens_per_s=new_tokens / statistics.median(totals) if totals else None,
        first_token_ms=_milliseconds(prefill, {"p50": 0.5, "p90": 0.9, "max": 1.0}),
        token_ms=_milliseconds(tokens, {"p50": 0.5, "p90": 0.9, "p99": 0.99}) if tokens else {},
    )


def _milliseconds(ordered: Sequence[float], percentiles: dict[str, float]) -> dict[str, float]:
    """Return percentiles by the nearest rank."""
    last = len(ordered) - 1
    return {name: ordered[round(part * last)] * 1000 for name, part in percentiles.items()}
