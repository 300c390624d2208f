"""How fast a model answers, and how large it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.runtime.protocol import Runtime


def latency_ms(ask: Callable[[Mapping[str, Any]], object], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the median and the longest time, in milliseconds, that a row asked alone takes; the first row is asked once before."""
    ask(rows[0])
    times = []
    for row in rows:
        start = time.perf_counter()
        ask(row)
        times.append((time.perf_counter() - start) * 1000)
    times.sort()
    return {"latency_ms_median": times[len(times) // 2], "latency_ms_max": times[-1]}


def model_size(runtime: Runtime) -> dict[str, float]:
    """Return the model's parameters and their bytes in memory, each shared one once; nothing for a runtime that shows no model.

    Of a model in files (ONNX, GGUF) the bytes of the files, whose parameters nobody counts.
    """
    model = getattr(runtime, "model", None)
    in_files = getattr(runtime, "size_bytes", getattr(model, "size_bytes", None))
    if in_files is not None:
        return {"size_bytes": float(in_files)}
    if model is None:
        return {}
    parameters = list(model.parameters())
    return {
        "num_parameters": float(sum(parameter.numel() for parameter in parameters)),
        "size_bytes": float(sum(parameter.numel() * parameter.element_size() for parameter in parameters)),
    }
