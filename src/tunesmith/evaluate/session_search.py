"""The threads and session options of onnxruntime that suit this machine, measured one change at a time beside the best so far.

Options only say how the same numbers are computed, so nothing of the answers is at stake.
"""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from tunesmith.artifact import write_file_atomically
from tunesmith.errors import UsageError
from tunesmith.evaluate.bench import in_turn
from tunesmith.evaluate.measured_process import MeasuredProcess
from tunesmith.evaluate.pace import Pace
from tunesmith.hardware import detect
from tunesmith.runtime.genai_engine import GENAI_CONFIG, read_genai_config

log = logging.getLogger(__name__)

_THREADS = "intra_op_num_threads"
#: What is tried once the number of threads is known. Meanings: onnxruntime_session_options_config_keys.h of onnxruntime.
_OTHERS: tuple[dict[str, Any], ...] = (
    {"session.intra_op.allow_spinning": "0"},  # waiting threads sleep, which frees a core that others use
    {"session.dynamic_block_base": "4"},  # work is divided into smaller portions towards its end
    {"enable_cpu_mem_arena": False},
    {"enable_mem_pattern": False},
)
#: What is chosen in the end must be faster than the present settings by this part, and in more rounds than not.
_LEAST_GAIN = 0.03
#: An option is kept on the way when it gains this part.
_WORTH_KEEPING = 0.02


@dataclass(frozen=True)
class TunedSession:
    """What a search found.

    Attributes:
        path: of the folder.
        session_options: those that were found best, whole.
        gain: how much faster than before, as a part: 0.1 is a tenth. Measured again at the end, against the settings of before.
        written: whether ``genai_config.json`` was changed; not where nothing was gained.
        trials: what was tried, as far as it differs from the present settings, with the seconds of one prompt and answer.
    """

    path: Path
    session_options: dict[str, Any]
    gain: float
    written: bool
    trials: tuple[tuple[dict[str, Any], float], ...]


def tune_session(
    folder: Path, *, prompt_tokens: int = 128, new_tokens: int = 64, repeats: int = 5, trust_remote_code: bool = False
) -> TunedSession:
    """Search, and write what was gained into ``genai_config.json``.

    Args:
        folder: that onnxruntime-genai runs.
        prompt_tokens, new_tokens: the work to be fast at.
        repeats: of each trial.
        trust_remote_code: run Python code of the tokenizer.

    Raises:
        UsageError: for another folder.
        UserError: when it can't be run.
    """
    if not (folder / GENAI_CONFIG).is_file():
        fix = "Name a folder that auto-opt made for onnxruntime-genai"
        raise UsageError(f"{folder} has no {GENAI_CONFIG}, so there are no session options to tune", fix=fix)
    settings = read_genai_config(folder)
    before = dict(settings["model"]["decoder"].get("session_options") or {})
    race = _Race(folder, prompt_tokens, new_tokens, repeats, trust_remote_code)
    # what runs without a number in the file is the number of physical cores
    best = {**before, _THREADS: before.get(_THREADS, detect().cores)}
    start = best
    trials: list[tuple[dict[str, Any], float]] = []
    for change in _changes(best):
        found, seconds = race.run([best, {**best, **change}])
        tried = {**best, **change}
        trials.append(({name: value for name, value in tried.items() if before.get(name) != value}, seconds[1]))
        log.info("%s: %+.1f %%", _as_text(change), 100 * (seconds[0] / seconds[1] - 1))
        if seconds[1] < seconds[0] * (1 - _WORTH_KEEPING) and _wins(found):
            best = {**best, **change}
    gain = race.gain(start, best) if best != start else 0.0
    written = gain >= _LEAST_GAIN
    if written:
        settings["model"]["decoder"]["session_options"] = best
        write_file_atomically(folder / GENAI_CONFIG, json.dumps(settings, indent=4) + "\n")
    return TunedSession(folder, best if written else before, gain, written, tuple(trials))


def _changes(start: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    logical = psutil.cpu_count() or 1
    counts = sorted({1, *range(2, detect().cores + 1, max(1, detect().cores // 4)), detect().cores, logical} - {start[_THREADS]})
    for count in counts:
        yield {_THREADS: count}
    for change in _OTHERS:
        if any(start.get(name) != value for name, value in change.items()):
            yield change


@dataclass(frozen=True)
class _Race:
    """Settings against each other, in processes that take turns."""

    folder: Path
    prompt_tokens: int
    new_tokens: int
    repeats: int
    trust_remote_code: bool

    def run(self, candidates: Sequence[Mapping[str, Any]]) -> tuple[list[list[float]], list[float]]:
        """Return the seconds of each repetition of each candidate, and their medians."""
        processes: list[MeasuredProcess] = []
        try:
            for options in candidates:
                processes.append(self._start(options))
                processes[-1].loaded()
            found = [[_seconds(pace) for pace in paces] for paces in in_turn(processes, self.repeats)]
        finally:
            for process in processes:
                process.__exit__(None, None, None)
        return found, [statistics.median(seconds) for seconds in found]

    def gain(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
        """Return how much faster ``after`` is, in more rounds than the search took; 0 unless it is faster in most of them."""
        found, medians = replace(self, repeats=2 * self.repeats).run([before, after])
        return max(0.0, medians[0] / medians[1] - 1) if _wins(found) else 0.0

    def _start(self, options: Mapping[str, Any]) -> MeasuredProcess:
        return MeasuredProcess(
            str(self.folder),
            prompt_tokens=self.prompt_tokens,
            new_tokens=self.new_tokens,
            session_options=options,
            trust_remote_code=self.trust_remote_code,
        )


def _wins(found: Sequence[Sequence[float]]) -> bool:
    """Return whether the second was faster in more than two thirds of the rounds."""
    faster: int = sum(after < before for before, after in zip(*found, strict=True))
    return 3 * faster > 2 * len(found[0])


def _seconds(pace: Pace) -> float:
    return pace.prefill_s + sum(pace.token_s)


def _as_text(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())
