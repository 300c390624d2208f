"""Which number format and device a model is loaded in: what was asked for where that works, else what does, and a sentence about it."""

from __future__ import annotations

import torch

from tunesmith.errors import UsageError, nearest
from tunesmith.hardware import Hardware

_SPELLINGS = {
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
    "half": "float16",
    "float32": "float32",
    "fp32": "float32",
    "float": "float32",
}
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def choose_device(requested: str = "auto") -> tuple[str, str | None]:
    """Return the device to use, ``cuda``, ``cuda:1``, ``mps`` or ``cpu``, and a note when it is not the one asked for.

    Raises:
        UsageError: when ``requested`` is not a kind of device.
    """
    kind = requested.partition(":")[0]
    if kind not in ("auto", "cpu", "cuda", "mps"):
        raise UsageError(
            f"unknown device '{requested}'; known: auto, cpu, cuda, cuda:N, mps", fix=nearest(kind, ("auto", "cpu", "cuda", "mps")) or None
        )
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    best = "cuda" if cuda else "mps" if torch.backends.mps.is_available() else "cpu"
    if requested == "auto":
        return best, None
    number = requested.partition(":")[2] or "0"
    if kind == "cuda" and number.isdigit() and int(number) < cuda:
        return requested, None
    if kind == best != "cuda" or requested == "cpu":
        return kind, None
    has = f"{cuda} CUDA device{'s' * (cuda != 1)}" if kind == "cuda" else "no Apple GPU that torch can use"
    return best, f"Asked for the device {requested}, but this machine has {has}; {best} is used instead."


def choose_dtype(requested: str, hardware: Hardware, *, device: str = "cpu") -> tuple[torch.dtype, str | None]:
    """Return the number format to load weights in, and a note when it is not the one asked for, or not a good one.

    ``auto`` is bf16 where the hardware multiplies it; else fp16 on CUDA, float32 on everything else.

    Args:
        requested: ``auto``, ``bfloat16``, ``float16`` or ``float32`` (or ``bf16``, ``fp16``, ``fp32``).
        hardware: of this machine, with its GPUs when ``device`` is one.
        device: as :func:`choose_device` gives it.

    Raises:
        UsageError: when ``requested`` is not a number format.
    """
    on_cpu = device == "cpu"
    index = int(device.partition(":")[2] or 0)
    bf16 = hardware.bf16 if on_cpu else index < len(hardware.gpus) and hardware.gpus[index].bf16
    best = "bfloat16" if bf16 else "float16" if device.startswith("cuda") else "float32"
    if requested == "auto":
        return _DTYPES[best], None
    name = _SPELLINGS.get(requested.removeprefix("torch."))
    if name is None:
        raise UsageError(f"unknown dtype '{requested}'; known: auto, {', '.join(_DTYPES)}", fix=nearest(requested, _SPELLINGS) or None)
    if name == "float16" and on_cpu:
        return _DTYPES[best], f"Asked for float16, which CPUs do not train in; {best} is used instead."
    if name == "bfloat16" and not bf16:
        if not on_cpu:
            return _DTYPES[best], f"Asked for bfloat16, which this GPU does not multiply; {best} is used instead."
        return _DTYPES[name], "This CPU does not multiply bfloat16 natively: it saves memory, but float32 is faster."
    return _DTYPES[name], None
