"""Number formats and devices: what is chosen for which machine, and what is said."""

from __future__ import annotations

import pytest
import torch

from tunesmith.errors import UsageError
from tunesmith.hardware import Gpu, Hardware
from tunesmith.models.precision import choose_device, choose_dtype


def machine(*, bf16: bool = False, gpu_bf16: bool = False) -> Hardware:
    return Hardware(4, 2**34, 2**33, bf16, frozenset(), gpus=(Gpu("gpu", 2**33, gpu_bf16),))


NATIVE, PLAIN = machine(bf16=True), machine()
NEW_GPU, OLD_GPU = machine(gpu_bf16=True), machine()


@pytest.mark.parametrize(
    ("requested", "hardware", "device", "chosen", "said"),
    [
        ("auto", NATIVE, "cpu", torch.bfloat16, None),
        ("auto", PLAIN, "cpu", torch.float32, None),
        ("auto", NEW_GPU, "cuda", torch.bfloat16, None),
        ("auto", OLD_GPU, "cuda:0", torch.float16, None),
        ("auto", OLD_GPU, "mps", torch.float32, None),
        ("auto", NEW_GPU, "mps", torch.bfloat16, None),
        ("float32", NATIVE, "cpu", torch.float32, None),
        ("torch.float32", NATIVE, "cpu", torch.float32, None),
        ("fp16", OLD_GPU, "cuda", torch.float16, None),
        ("bf16", NATIVE, "cpu", torch.bfloat16, None),
        ("float16", NATIVE, "cpu", torch.bfloat16, "CPUs do not train in; bfloat16 is used instead"),
        ("float16", PLAIN, "cpu", torch.float32, "CPUs do not train in; float32 is used instead"),
        ("bfloat16", PLAIN, "cpu", torch.bfloat16, "float32 is faster"),
        ("bfloat16", OLD_GPU, "cuda", torch.float16, "float16 is used instead"),
        ("bfloat16", OLD_GPU, "mps", torch.float32, "float32 is used instead"),
    ],
)
def test_dtype(requested: str, hardware: Hardware, device: str, chosen: torch.dtype, said: str | None) -> None:
    dtype, note = choose_dtype(requested, hardware, device=device)
    assert dtype is chosen
    assert note is None if said is None else said in (note or "")


def test_unknown_dtype() -> None:
    with pytest.raises(UsageError, match=r"unknown dtype 'floaty32'; known: auto, bfloat16, float16, float32. Did you mean 'float32'"):
        choose_dtype("floaty32", PLAIN)


@pytest.mark.parametrize(
    ("requested", "cuda", "mps", "chosen", "said"),
    [
        ("auto", 0, False, "cpu", None),
        ("auto", 1, False, "cuda", None),
        ("auto", 0, True, "mps", None),
        ("cpu", 1, False, "cpu", None),
        ("cuda", 1, False, "cuda", None),
        ("cuda:1", 2, False, "cuda:1", None),
        ("mps", 0, True, "mps", None),
        ("cuda", 0, False, "cpu", "this machine has 0 CUDA devices; cpu is used instead"),
        ("cuda", 0, True, "mps", "this machine has 0 CUDA devices; mps is used instead"),
        ("cuda:1", 1, False, "cuda", "this machine has 1 CUDA device; cuda is used instead"),
        ("cuda:x", 1, False, "cuda", "this machine has 1 CUDA device; cuda is used instead"),
        ("mps", 1, False, "cuda", "no Apple GPU that torch can use; cuda is used instead"),
    ],
)
def test_device(monkeypatch: pytest.MonkeyPatch, requested: str, cuda: int, mps: bool, chosen: str, said: str | None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    device, note = choose_device(requested)
    assert device == chosen
    assert note is None if said is None else said in (note or "")
