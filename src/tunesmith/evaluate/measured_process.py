"""A process that holds one model and times it when told: ``python -m tunesmith.evaluate.measured_process SETTINGS``.

Every line it writes to standard output is one JSON object: first what loading took, then a `Pace` for each number that it reads as seed;
``{"error": …}`` when something goes wrong.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import logging
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelError, TunesmithError, UserError
from tunesmith.evaluate.pace import Pace, PeakMemory, measure

if TYPE_CHECKING:
    from typing_extensions import Self

    from tunesmith.runtime.protocol import Runtime


@dataclass(frozen=True)
class Loaded:
    """What is known of a model once it is loaded.

    Attributes:
        kind: of its runtime: ``torch``, ``onnx``, ``gguf``.
        load_s: seconds until it could answer, without importing Python's libraries.
        size_mb: of its files, or of its weights in memory, in MB.
        rss_mib: memory that it took.
    """

    kind: str
    load_s: float
    size_mb: float | None
    rss_mib: float


class MeasuredProcess:
    """The other side: starts the process, and asks it for one repetition at a time.

    Args:
        path: of the model.
        prompt_tokens, new_tokens: of each repetition.
        threads: of the CPU.
        session_options: of onnxruntime, for a folder of onnxruntime-genai.
        trust_remote_code: run Python code that comes with the model.
    """

    def __init__(
        self,
        path: str,
        *,
        prompt_tokens: int,
        new_tokens: int,
        threads: int | None = None,
        session_options: Mapping[str, Any] | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self.path = path
        settings = {
            "path": path,
            "prompt_tokens": prompt_tokens,
            "new_tokens": new_tokens,
            "threads": threads,
            "session_options": dict(session_options) if session_options is not None else None,
            "trust_remote_code": trust_remote_code,
        }
        command = [sys.executable, "-m", "tunesmith.evaluate.measured_process", json.dumps(settings)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, encoding="utf-8", errors="replace")
        self._said: deque[str] = deque(maxlen=20)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):  # what was written to a process that has ended can't be flushed
                if pipe is not None:
                    pipe.close()

    def loaded(self) -> Loaded:
        """Wait until the model is loaded.

        Raises:
            UserError: when it can't be.
        """
        return Loaded(**self._answer())

    def repeat(self, seed: int) -> Pace:
        """Time one prompt and its answer; see `tunesmith.evaluate.pace.measure`."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # a process that has ended reads nothing; what it left to say is found below
            self._process.stdin.write(f"{seed}\n")
            self._process.stdin.flush()
        answer = self._answer()
        return Pace(answer["prefill_s"], tuple(answer["token_s"]), answer["rss_mib"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._listener.join()
            last = next((text for text in reversed(self._said) if text.strip()), "it said nothing")
            raise ModelError(f"the process that ran {self.path} ended with status {status}: {last.strip()}", fix="Is there enough memory?")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise (UserError if answer["by_user"] else TunesmithError)(answer["error"], fix=answer["fix"])
        return answer

    def _listen(self) -> None:
        """Keep the last lines of what the process says, so that its pipe never fills up."""
        assert self._process.stderr is not None
        self._said.extend(self._process.stderr)


def main(settings: Mapping[str, Any]) -> None:
    """Be that process."""
    try:
        with PeakMemory() as memory:
            runtime = _load(settings, memory)
            for line in sys.stdin:
                pace = measure(runtime, prompt_tokens=settings["prompt_tokens"], new_tokens=settings["new_tokens"], seed=int(line))
                _say({**dataclasses.asdict(pace), "rss_mib": memory.grown_mib})
    except TunesmithError as error:
        _say({"error": error.message, "fix": error.fix, "by_user": isinstance(error, UserError)})


def _load(settings: Mapping[str, Any], memory: PeakMemory) -> Runtime:
    from tunesmith.evaluate.speed import model_size
    from tunesmith.models.quiet import silence_kernel_advice
    from tunesmith.runtime.load import load

    silence_kernel_advice()
    _import_engines()
    memory.start_anew()
    start = time.perf_counter()
    if settings["session_options"] is None:
        runtime = load(settings["path"], threads=settings["threads"], trust_remote_code=settings["trust_remote_code"])
    else:
        runtime = _with_session_options(Path(settings["path"]), settings["session_options"], settings["trust_remote_code"])
    seconds = time.perf_counter() - start
    size = model_size(runtime).get("size_bytes")
    _say(dataclasses.asdict(Loaded(runtime.kind, seconds, None if size is None else size / 1e6, memory.grown_mib)))
    return runtime


def _import_engines() -> None:
    """Import what loading would import, so that it counts neither as time nor as memory of the model."""
    import transformers

    _ = transformers.AutoTokenizer, transformers.AutoModelForCausalLM
    for name in ("onnxruntime_genai", "llama_cpp"):
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)


def _with_session_options(folder: Path, session_options: Mapping[str, Any], trust_remote_code: bool) -> Runtime:
    from tunesmith.models.load import load_tokenizer
    from tunesmith.models.sources import ModelSource
    from tunesmith.runtime.onnx_runtime import load_genai

    tokenizer = load_tokenizer(ModelSource(str(folder), "folder", folder), trust_remote_code=trust_remote_code)
    return load_genai(folder, tokenizer, session_options=session_options)


def _say(answer: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    main(json.loads(sys.argv[1]))
