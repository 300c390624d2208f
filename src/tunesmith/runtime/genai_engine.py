"""onnxruntime-genai as an engine: a folder with ``genai_config.json``, run by the library that made it.

What its generator does otherwise than its documentation lets expect, and is worked around here (seen with 0.18):
a token that equals the pad token at the end of what is appended counts as padding, is masked, and the logits are those before it (many
models pad with their end-of-turn token), so a number that is no token pads here; batches must be padded on the right.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.errors import DependencyError, ModelError
from tunesmith.hardware import detect
from tunesmith.runtime.engine import common_length

# Legend: B rows, T tokens of the longest row, N positions that are asked for, V vocabulary.

GENAI_CONFIG = "genai_config.json"
#: Stands for padding in what the generator is given; the graph reads it as some row of the embedding, whose values nothing looks at.
_PAD = -1
#: Tokens appended at once: the logits of all of them are computed, 100 MB with a vocabulary of 50,000.
_CHUNK = 512
#: Memory for keys and values is taken for so many tokens at a time, and for no more that may follow than this.
_GRAIN, _MOST_ROOM = 256, 1024
#: More rows at once bring little more on a CPU.
_MOST_ROWS = 16


class GenaiEngine:
    """An `Engine` by onnxruntime-genai.

    Args:
        folder: with ``genai_config.json``, the graph and the tokenizer.
        threads: by default what the configuration names; failing that, as many as there are physical cores.
        session_options: of onnxruntime, over those of the configuration, by the names it uses.

    Raises:
        DependencyError: when onnxruntime-genai isn't installed.
        ModelError: when a part is missing or can't be read.
    """

    most_rows = _MOST_ROWS

    def __init__(self, folder: Path, *, threads: int | None = None, session_options: Mapping[str, Any] | None = None) -> None:
        settings = read_genai_config(folder)
        if importlib.util.find_spec("onnxruntime_genai") is None:
            raise DependencyError("onnxruntime-genai", "cpu", purpose=f"running {folder}")
        import onnxruntime_genai

        self._library: Any = onnxruntime_genai
        self._folder = folder
        self.context_length: int | None = settings["model"].get("context_length")
        ids = settings["model"].get("eos_token_id")
        self.stop_ids = frozenset([ids] if isinstance(ids, int) else ids or ())
        self.size_bytes = sum(file.stat().st_size for file in model_files(folder, settings))
        try:
            config = self._library.Config(str(folder))
            session = {**_threads(settings, threads), **(session_options or {})}
            config.overlay(json.dumps({"model": {"pad_token_id": _PAD, "decoder": {"session_options": session}}}))
            self._model = self._library.Model(config)
            self._tokenizer = self._library.Tokenizer(self._model)
        except Exception as error:  # the library raises RuntimeError, or what its bindings make of an exception
            fix = "Export it again, or copy the whole folder"
            raise ModelError(f"{folder} can't be run by onnxruntime-genai: {_first_line(error)}", fix=fix) from error
        self._generator: Any = None
        self._capacity = 0
        self._held: list[int] = []

    def encode(self, text: str) -> list[int]:
        """Return a text as token ids, by the tokenizer of onnxruntime-genai."""
        return [int(token) for token in self._tokenizer.encode(text)]

    def read(self, tokens: Sequence[int], *, num_logits: int = 1, room: int = 0) -> np.ndarray:
        """Return the logits ``(N, V)`` behind the last tokens of a row; see `Engine.read`."""
        row = list(tokens)
        try:
            with _in_words(self._folder):
                kept = self._go_back(self._to_keep(row, num_logits), len(row), room)
                portions = list(self._read_on(row, kept, num_logits))
        except BaseException:
            self._generator, self._held, self._capacity = None, [], 0  # it may hold a part of the row
            raise
        return portions[0] if len(portions) == 1 else np.concatenate(portions)

    def _read_on(self, row: list[int], kept: int, num_logits: int) -> Iterator[np.ndarray]:
        """Append what is behind the first ``kept`` tokens; yield the last logits portion by portion."""
        missing = len(row) - num_logits  # logits from here on are asked for
        for start in range(kept, len(row), _CHUNK):
            end = min(start + _CHUNK, len(row))
            self._generator.append_tokens(np.array(row[start:end], dtype=np.int32))
            self._held = row[:end]
            if end > missing:
                yield self._last_logits(end - max(start, missing), end - start)

    def open(self, rows: Sequence[Sequence[int]], *, room: int) -> GenaiBatch:
        """Return a batch of rows; see `Engine.open`."""
        self._generator, self._held, self._capacity = None, [], 0  # its memory is free for the batch
        length = max(map(len, rows)) + room
        with _in_words(self._folder):
            return GenaiBatch(self._new_generator(length, len(rows)), rows)

    def _to_keep(self, row: list[int], num_logits: int) -> int:
        """Return how many of the first tokens are taken as computed.

        A single token behind others is computed by another kernel than several: to 1e-6 alike, but activations that are rounded to int8
        make much of that. So a row that doesn't just go on is read from two tokens before its end, and has the same logits each time.
        """
        kept = min(common_length(self._held, row), len(row) - num_logits)
        goes_on = kept == len(self._held)
        return kept if goes_on else max(0, min(kept, len(row) - 2))

    def _go_back(self, kept: int, length: int, room: int) -> int:
        """Make the generator hold the first ``kept`` tokens of those it holds, with memory for ``length``; return how many it does hold."""
        if self._generator is None or length > self._capacity:
            wanted = -(-(length + min(room, _MOST_ROOM)) // _GRAIN) * _GRAIN
            wanted = max(wanted, min(2 * self._capacity, length + _MOST_ROOM))
            self._capacity = wanted if self.context_length is None else min(wanted, self.context_length)
            self._generator, self._held = None, []
            self._generator = self._new_generator(self._capacity, 1)
            return 0
        if kept < len(self._held):
            try:
                self._generator.rewind_to(kept)
            except RuntimeError:  # keys and values in a sliding window can't be taken back
                self._generator, kept = self._new_generator(self._capacity, 1), 0
        self._held = self._held[:kept]
        return kept

    def _new_generator(self, length: int, num_rows: int) -> Any:
        params = self._library.GeneratorParams(self._model)
        params.set_search_options(
            batch_size=num_rows, max_length=length, num_beams=1, do_sample=False, min_length=0, repetition_penalty=1.0
        )
        return self._library.Generator(self._model, params)

    def _last_logits(self, num_logits: int, num_appended: int) -> np.ndarray:
        """Return the logits of the last positions, ``(N, V)``, after ``num_appended`` tokens were appended at once."""
        if num_logits == 1:
            return np.array(self._generator.get_logits()[0, -1:], dtype=np.float32)
        logits = self._generator.get_output("logits")[0]
        if len(logits) < num_appended:
            fix = "Export it without prune_lm_head"
            raise ModelError("the graph gives the logits of the last token alone, so given answers can't be scored", fix=fix)
        return np.array(logits[-num_logits:], dtype=np.float32)


class GenaiBatch:
    """Rows in one generator, padded on the right; see `tunesmith.runtime.engine.Batch`."""

    def __init__(self, generator: Any, rows: Sequence[Sequence[int]]) -> None:
        width = max(map(len, rows))
        self._generator = generator
        generator.append_tokens(np.array([[*row, *[_PAD] * (width - len(row))] for row in rows], dtype=np.int32))
        self.logits: np.ndarray = np.array(generator.get_logits()[:, 0], dtype=np.float32)  # (B, V)
        self._forced = np.zeros((len(rows), 1, self.logits.shape[-1]), dtype=np.float32)

    def advance(self, tokens: Sequence[int]) -> None:
        """Append a token to each row: the generator takes the likeliest, so all others are made unlikely."""
        self._forced.fill(-1e9)
        self._forced[np.arange(len(tokens)), 0, list(tokens)] = 0.0
        self._generator.set_logits(self._forced)
        self._generator.generate_next_token()
        self.logits = np.array(self._generator.get_logits()[:, 0], dtype=np.float32)


@contextlib.contextmanager
def _in_words(folder: Path) -> Iterator[None]:
    """Turn what the library raises while it computes into a ModelError that names the folder: a graph and a tokenizer that don't fit …"""
    try:
        yield
    except RuntimeError as error:
        fix = "Does its tokenizer belong to it? Export it again"
        raise ModelError(f"onnxruntime-genai can't compute with {folder}: {_first_line(error)}", fix=fix) from error


def read_genai_config(folder: Path) -> dict[str, Any]:
    """Return what ``genai_config.json`` says, with ``model`` in it.

    Raises:
        ModelError: when it can't be read, or names a file that isn't there.
    """
    file = folder / GENAI_CONFIG
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        model = settings["model"]
        named = model["decoder"]["filename"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ModelError(f"{file} can't be read: {reason}", fix="Export it again, or restore the file from a copy") from error
    if not isinstance(model, dict) or not isinstance(named, str):
        raise ModelError(f"{file} names no model.decoder.filename", fix="Export it again, or restore the file from a copy")
    if not (folder / named).is_file():
        raise ModelError(f"{folder} has no {named}, which its {GENAI_CONFIG} names", fix="Copy the whole folder, or export it again")
    return dict(settings)


def model_files(folder: Path, settings: dict[str, Any]) -> list[Path]:
    """Return the graph that a configuration names, and what lies beside it under names that begin alike: its data."""
    return sorted(folder.glob(f"{settings['model']['decoder']['filename']}*"))


def _threads(settings: dict[str, Any], threads: int | None) -> dict[str, int]:
    given = settings["model"]["decoder"].get("session_options") or {}
    if threads is None and "intra_op_num_threads" in given:
        return {}
    return {"intra_op_num_threads": threads or detect().cores}


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
