"""What this machine has and what it is good at: cores, memory, instruction sets, GPUs, execution providers.

Containers and schedulers give a process less than the machine has (affinity masks, cgroup quotas and limits); what counts is what it got.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_NATIVE_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16", "feat_bf16"})
#: IsProcessorFeaturePresent numbers of winnt.h; Windows has none for bf16.
_WINDOWS_FEATURES = {"sse4_1": 37, "avx": 39, "avx2": 40, "avx512f": 41}
_UNLIMITED = 1 << 60


@dataclass(frozen=True)
class Gpu:
    """One accelerator: its name, its memory, and whether it multiplies bf16."""

    name: str
    memory_bytes: int
    bf16: bool


@dataclass(frozen=True)
class Hardware:
    """What a process may use.

    Attributes:
        cores: physical cores, at most as many as the affinity mask and the CPU quota allow; at least 1.
        memory_bytes: of the machine, or of the container when that is less.
        available_bytes: what can be allocated now without swapping.
        bf16: the CPU multiplies bf16 natively, so bf16 is faster than float32 and not only smaller.
        instruction_sets: the CPU's features as the system spells them, lower case.
        gpus, providers: empty unless asked for, see :func:`detect`.
    """

    cores: int
    memory_bytes: int
    available_bytes: int
    bf16: bool
    instruction_sets: frozenset[str] = field(repr=False)
    gpus: tuple[Gpu, ...] = ()
    providers: tuple[str, ...] = ()


def detect(*, gpus: bool = False, providers: bool = False) -> Hardware:
    """Look at this machine.

    Args:
        gpus: also look for GPUs, which imports torch.
        providers: also list the execution providers of onnxruntime, which imports it (none when it is not installed).
    """
    instruction_sets = _instruction_sets()
    memory, available = _memory()
    return Hardware(
        cores=_cores(),
        memory_bytes=memory,
        available_bytes=available,
        bf16=bool(_NATIVE_BF16 & instruction_sets),
        instruction_sets=instruction_sets,
        gpus=detect_gpus() if gpus else (),
        providers=_detect_providers() if providers else (),
    )


def detect_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that torch can use: CUDA and ROCm devices, or Apple's; imports torch."""
    import torch

    if torch.cuda.is_available():
        found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        # compute capability 8.0 (Ampere) brought bf16; older cards only emulate it, slowly
        return tuple(Gpu(gpu.name, gpu.total_memory, torch.version.hip is not None or gpu.major >= 8) for gpu in found)
    if torch.backends.mps.is_available():
        # Metal has bf16 from macOS 14 on, and shares the machine's memory
        release = int(platform.mac_ver()[0].partition(".")[0] or 0)
        return (Gpu("Apple GPU (MPS)", int(torch.mps.recommended_max_memory()), release >= 14),)
    return ()


def _detect_providers() -> tuple[str, ...]:
    try:
        import onnxruntime
    except ImportError:
        return ()
    return tuple(onnxruntime.get_available_providers())


def _cores() -> int:
    allowed = _allowed_cpus()
    physical = _physical_cores(allowed) if allowed else psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return max(1, int(min(physical, _cpu_quota())))


def _allowed_cpus() -> frozenset[int]:
    if sys.platform == "linux":
        return frozenset(os.sched_getaffinity(0))
    if sys.platform == "win32":
        return frozenset(psutil.Process().cpu_affinity())
    return frozenset()  # macOS has no affinity masks


def _physical_cores(allowed: frozenset[int]) -> int:
    """Count the cores that the allowed logical CPUs sit on: two hyper-threads of one core are one."""
    siblings = (Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in allowed)
    with contextlib.suppress(OSError):
        return len({file.read_text() for file in siblings})
    return min(len(allowed), psutil.cpu_count(logical=False) or len(allowed))


def _cpu_quota() -> float:
    """CPUs that the cgroup grants, infinity when it sets no limit."""
    limits = [math.inf]
    for folder in _cgroup_folders("cpu"):
        v2 = _read(folder / "cpu.max").split()  # "200000 100000", or "max 100000"
        quota, period = v2 if len(v2) == 2 else (_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))
        if quota.isdigit() and period.isdigit():
            limits.append(int(quota) / int(period))
    return min(limits)


def _memory() -> tuple[int, int]:
    """Bytes that this process may have in all, and that it can get now."""
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for folder in _cgroup_folders("memory"):
        limit = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
        if not limit.isdigit() or int(limit) >= _UNLIMITED:
            continue
        used = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes")
        # pages of files that were read once count as used, but are given back at need
        cached = [line.split()[1] for line in _read(folder / "memory.stat").splitlines() if line.startswith("inactive_file ")]
        free = int(limit) - int(used or 0) + int(cached[0] if cached else 0)
        total, available = min(total, int(limit)), min(available, max(0, free))
    return total, available


def _cgroup_folders(controller: str) -> list[Path]:
    """Folders of this process's cgroup and all above it, for cgroup v2 and v1: a limit on any of them binds."""
    root, folders = Path("/sys/fs/cgroup"), []
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or controller in controllers.split(","):
            top = root if number == "0" else root / controller
            own = top / path.lstrip("/")
            folders += [folder for folder in (own, *own.parents) if folder == top or top in folder.parents]
    return folders


def _instruction_sets() -> frozenset[str]:
    if sys.platform == "darwin":
        # one line a feature: "hw.optional.arm.FEAT_BF16: 1"; Intel Macs name them in machdep.cpu
        lines = _run_sysctl("hw.optional").splitlines()
        found = {line.partition(":")[0].rpartition(".")[2].lower() for line in lines if line.endswith(" 1")}
        intel = _run_sysctl("machdep.cpu.leaf7_features") + " " + _run_sysctl("machdep.cpu.features")
        return frozenset(found | set(intel.lower().split()))
    if sys.platform == "win32":
        import ctypes

        present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        return frozenset(name for name, number in _WINDOWS_FEATURES.items() if present(number))
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):  # x86, ARM
            return frozenset(value.lower().split())
    return frozenset()


def _run_sysctl(name: str) -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(["/usr/sbin/sysctl", name], capture_output=True, text=True, timeout=5, check=False).stdout
    return ""


def _read(file: Path) -> str:
    with contextlib.suppress(OSError):
        return file.read_text().strip()
    return ""
