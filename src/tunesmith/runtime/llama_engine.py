"""llama.cpp as an engine: a GGUF file, run through llama-cpp-python."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.errors import DependencyError, ModelError, UsageError
from tunesmith.hardware import detect
from tunesmith.models.checks import check_gguf
from tunesmith.runtime.engine import Batch, common_length

log = logging.getLogger(__name__)

# Legend: N positions that are asked for, V vocabulary.

#: An adapter beside the file, which belongs on it.
ADAPTER_FILE = "adapter.gguf"
#: Tokens computed at once.
_CHUNK = 512
#: Memory for keys and values is taken for so many tokens at a time, and for no more that may follow than this.
_GRAIN, _MOST_ROOM = 256, 1024


@functools.cache
def _log_quietly(library: Any) -> Any:
    """Hand what llama.cpp says to our log as details: its Python package takes warnings for errors and prints a line for each weight.

    Returns: the callback, which has to live as long as the library; the cache keeps it.
    """

    def say(_level: int, text: bytes, _data: object) -> None:
        log.debug(text.decode("utf-8", errors="replace").rstrip())

    callback = library.llama_log_callback(say)
    library.llama_log_set(callback, ctypes.c_void_p(0))
    return callback


class LlamaEngine:
    """An `Engine` by llama.cpp.

    Args:
        file: the GGUF file.
        threads: by default as many as there are physical cores.
        on_gpu: put all layers on a GPU; by default, where this llama.cpp was built for one.

    Raises:
        DependencyError: when llama-cpp-python isn't installed.
        ModelError: when the file is missing, damaged, or of a kind that this llama.cpp doesn't know.
        UsageError: when a GPU is asked for and this llama.cpp was built without.
    """

    most_rows = 1

    def __init__(self, file: Path, *, threads: int | None = None, on_gpu: bool | None = None) -> None:
        if importlib.util.find_spec("llama_cpp") is None:
            raise DependencyError("llama-cpp-python", "gguf", purpose=f"running {file}")
        if not file.is_file():
            raise ModelError(f"{file.parent} has no {file.name}", fix="Copy the whole folder, or export it again")
        check_gguf(file)
        import llama_cpp

        self._library: Any = llama_cpp
        _log_quietly(llama_cpp)
        has_gpu = bool(llama_cpp.llama_supports_gpu_offload())
        if on_gpu and not has_gpu:
            fix = "Leave --device out, or install llama-cpp-python for your GPU"
            raise UsageError("this llama-cpp-python was built for the CPU alone", fix=fix)
        self._file, self._threads = file, threads or detect().cores
        self._gpu_layers = -1 if on_gpu or (on_gpu is None and has_gpu) else 0
        self._adapter = file.with_name(ADAPTER_FILE)
        self.size_bytes = sum(part.stat().st_size for part in (file, self._adapter) if part.is_file())
        self.context_length: int | None = None
        self._held: list[int] = []
        self._llama = self._opened(_GRAIN)
        self._batch = llama_cpp.llama_batch_init(_CHUNK, 0, 1)
        self.context_length = int(llama_cpp.llama_model_n_ctx_train(self._llama.model))
        vocab = llama_cpp.llama_model_get_vocab(self._llama.model)
        self.stop_ids = frozenset(token for token in range(self._llama.n_vocab()) if llama_cpp.llama_vocab_is_eog(vocab, token))

    def encode(self, text: str) -> list[int]:
        """Return a text as token ids, by llama.cpp's tokenizer, with the BOS token once where it adds one, as its server does."""
        ids: list[int] = self._llama.tokenize(text.encode(), add_bos=True, special=True)
        start = self._llama.token_bos()
        return ids[1:] if ids[:2] == [start, start] else ids

    def read(self, tokens: Sequence[int], *, num_logits: int = 1, room: int = 0) -> np.ndarray:
        """Return the logits ``(N, V)`` behind the last tokens of a row; see `Engine.read`."""
        row = list(tokens)
        kept = self._go_back(min(common_length(self._held, row), len(row) - num_logits), len(row), room)
        missing = len(row) - num_logits  # logits from here on are asked for
        portions: list[np.ndarray] = []
        for start in range(kept, len(row), _CHUNK):
            end = min(start + _CHUNK, len(row))
            portions += self._append(row[start:end], start, asked_from=max(0, missing - start))
            self._held = row[:end]
        return portions[0] if len(portions) == 1 else np.concatenate(portions)

    def open(self, rows: Sequence[Sequence[int]], *, room: int) -> Batch:
        """Refuse: rows are read one at a time here."""
        raise NotImplementedError("llama.cpp is given one row at a time")

    def _go_back(self, kept: int, length: int, room: int) -> int:
        """Make the context hold the first ``kept`` tokens of those it holds, with memory for ``length``; return how many it does hold."""
        if length > self._llama.n_ctx():
            wanted = -(-(length + min(room, _MOST_ROOM)) // _GRAIN) * _GRAIN
            wanted = max(wanted, min(2 * self._llama.n_ctx(), length + _MOST_ROOM))
            self._held = []
            self._llama.close()
            self._llama = self._opened(wanted if self.context_length is None else min(wanted, self.context_length))
            return 0
        if kept < len(self._held):
            memory = self._library.llama_get_memory(self._llama.ctx)
            if not self._library.llama_memory_seq_rm(memory, 0, kept, -1):  # what is far back can't always be taken out apart
                self._library.llama_memory_clear(memory, True)
                kept = 0
        self._held = self._held[:kept]
        return kept

    def _append(self, tokens: list[int], place: int, *, asked_from: int) -> list[np.ndarray]:
        """Compute tokens from ``place`` on; return the logits ``(N, V)`` of those from ``asked_from`` on, nothing where there are none."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for number, token in enumerate(tokens):
            batch.token[number], batch.pos[number] = token, place + number
            batch.n_seq_id[number], batch.seq_id[number][0] = 1, 0
            batch.logits[number] = number >= asked_from
        status = self._library.llama_decode(self._llama.ctx, batch)
        if status:
            self._library.llama_memory_clear(self._library.llama_get_memory(self._llama.ctx), True)
            self._held = []
            what = f"llama.cpp can't compute {len(tokens)} tokens of {self._file} (status {status})"
            raise ModelError(what, fix="Shorten the prompt")
        count = len(tokens) - asked_from
        if count <= 0:
            return []
        size = self._llama.n_vocab()
        flat = np.ctypeslib.as_array(self._library.llama_get_logits(self._llama.ctx), shape=(count * size,))
        return [flat.reshape(count, size).copy()]

    def _opened(self, length: int) -> Any:
        """Return the file opened by llama.cpp, with memory for so many tokens."""
        try:
            llama = self._library.Llama(
                str(self._file),
                n_ctx=length,
                n_batch=_CHUNK,
                n_ubatch=_CHUNK,
                n_threads=self._threads,
                n_threads_batch=self._threads,
                n_gpu_layers=self._gpu_layers,
                lora_path=str(self._adapter) if self._adapter.is_file() else None,
                verbose=False,
            )
        except (ValueError, RuntimeError, AssertionError) as error:
            fix = "Export it again, or update llama-cpp-python"
            raise ModelError(f"{self._file} can't be run by llama.cpp: {error}", fix=fix) from error
        weakref.finalize(self, llama.close)  # at the end of the process, its own finalizer finds its library unloaded
        return llama
