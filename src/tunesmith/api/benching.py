"""How fast artifacts are, and how they become faster on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunesmith.evaluate.bench import BenchResult
    from tunesmith.evaluate.session_search import TunedSession


def bench(
    artifacts: Sequence[str | Path],
    *,
    prompt_tokens: int = 256,
    new_tokens: int = 64,
    repeats: int = 5,
    threads: int | None = None,
    trust_remote_code: bool = False,
) -> list[BenchResult]:
    """Measure how fast artifacts read prompts and write answers, how long they load and what memory they take.

    Each is loaded in a process of its own; repetitions take turns, so that a busy moment of the machine hits all of them.

    Args:
        artifacts: whatever :func:`tunesmith.load` takes: exports, runs, models.
        prompt_tokens, new_tokens: of each repetition.
        repeats: of each artifact; the results are medians and percentiles.
        threads: of the CPU, for all of them; by default as many as there are physical cores.
        trust_remote_code: run Python code that comes with a model.

    Raises:
        UserError: when one can't be loaded, or has no room for so many tokens.
    """
    from tunesmith.evaluate.bench import bench as measure

    return measure(
        [str(artifact) for artifact in artifacts],
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        repeats=repeats,
        threads=threads,
        trust_remote_code=trust_remote_code,
    )


def tune_session_params(
    artifact: str | Path,
    *,
    prompt_tokens: int = 256,
    new_tokens: int = 64,
    repeats: int = 5,
    trust_remote_code: bool = False,
) -> TunedSession:
    """Search the threads and session options with which this machine runs an export fastest; write them into it if they gain something.

    Args:
        artifact: a folder that onnxruntime-genai runs.
        prompt_tokens, new_tokens: the work to be fast at.
        repeats: of each trial.
        trust_remote_code: run Python code of the tokenizer.

    Raises:
        UserError: for another folder, or one that can't be run.
    """
    from tunesmith.evaluate.session_search import tune_session

    return tune_session(
        Path(artifact).expanduser(),
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        repeats=repeats,
        trust_remote_code=trust_remote_code,
    )
