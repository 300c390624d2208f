"""How fast one loaded model reads and writes: a prompt of some length, then token after token, each timed.

Tokens are drawn at random, so that no answer ends early and no repetition finds the last one's keys and values.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import psutil

from tunesmith.errors import UsageError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from tunesmith.runtime.protocol import Runtime

#: Seconds between two looks at the memory of the process.
_LOOK_EVERY = 0.01


@dataclass(frozen=True)
class Pace:
    """One repetition.

    Attributes:
        prefill_s: seconds to read the prompt and give the first logits.
        token_s: seconds for each further token; empty for a model that writes none.
        rss_mib: the most memory of the process so far, without what it had before the model was loaded.
    """

    prefill_s: float
    token_s: tuple[float, ...]
    rss_mib: float = 0.0


def measure(runtime: Runtime, *, prompt_tokens: int, new_tokens: int, seed: int) -> Pace:
    """Time one prompt and its answer.

    Args:
        runtime: a loaded model.
        prompt_tokens: of the prompt; a model with a head reads a text of about so many.
        new_tokens: written behind it.
        seed: of the tokens; another one for each repetition.

    Raises:
        UsageError: when the model's context has no room for so many tokens.
    """
    from tunesmith.runtime.text_runtime import TextRuntime

    ids = _random_ids(runtime, prompt_tokens, seed)
    if not isinstance(runtime, TextRuntime):
        return _measure_whole(runtime, ids)
    context = runtime.context_length
    if context is not None and prompt_tokens + new_tokens > context:
        found = f"{prompt_tokens} tokens of prompt and {new_tokens} of answer don't fit the model's context of {context} tokens"
        raise UsageError(found, fix="Measure with fewer: --prompt_tokens, --new_tokens")
    start = time.perf_counter()
    row = runtime.open_row(ids, room=new_tokens)
    token = int(row.logits[0].argmax())
    moments = [time.perf_counter()]
    for _ in range(new_tokens):
        row.advance([token])
        token = int(row.logits[0].argmax())
        moments.append(time.perf_counter())
    return Pace(moments[0] - start, tuple(later - earlier for earlier, later in pairwise(moments)))


def _measure_whole(runtime: Runtime, ids: list[int]) -> Pace:
    """Time the answer of a model that isn't asked token by token: a head, an encoder-decoder."""
    columns = runtime.task.text_columns or ("text",)
    text = str(runtime.tokenizer.decode(ids, skip_special_tokens=True))
    row = dict.fromkeys(columns, text) if runtime.task.head else text
    start = time.perf_counter()
    runtime.generate([row], max_new_tokens=1)
    return Pace(time.perf_counter() - start, ())


def _random_ids(runtime: Runtime, count: int, seed: int) -> list[int]:
    special = set(runtime.tokenizer.all_special_ids)
    draw, size = random.Random(seed), len(runtime.tokenizer)
    found: list[int] = []
    while len(found) < count:
        token = draw.randrange(size)
        found += [token] if token not in special else []
    return found


class PeakMemory:
    """Watches the memory of this process from a thread while the block runs."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self._most = self._process.memory_info().rss
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def start_anew(self) -> None:
        """Count from here on."""
        self._before = self._most = self._process.memory_info().rss

    @property
    def grown_mib(self) -> float:
        """The most memory so far, without what there was at the start, in MiB."""
        return (max(self._most, self._process.memory_info().rss) - self._before) / 2**20

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_EVERY):
            self._most = max(self._most, self._process.memory_info().rss)
