"""What the machine has: as the system says it, less what a container takes away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tunesmith import hardware

GIB = 2**30


def test_this_machine() -> None:
    found = hardware.detect()
    assert 1 <= found.cores <= (psutil.cpu_count() or 1)
    assert 0 < found.available_bytes <= found.memory_bytes <= psutil.virtual_memory().total
    assert found.instruction_sets
    assert found.gpus == found.providers == ()


def test_detecting_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "onnxruntime")
    code = f"import sys; from tunesmith.hardware import detect; detect(); print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_gpus_are_those_of_torch() -> None:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else int(torch.backends.mps.is_available())
    gpus = hardware.detect(gpus=True).gpus
    assert len(gpus) == count
    assert all(gpu.memory_bytes > 0 for gpu in gpus)


def test_providers_are_those_of_onnxruntime() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    assert hardware.detect(providers=True).providers == tuple(onnxruntime.get_available_providers())


def test_no_providers_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert hardware.detect(providers=True).providers == ()


@pytest.mark.parametrize(("flag", "bf16"), [("avx512_bf16", True), ("amx_bf16", True), ("bf16", True), ("avx512f", False)])
def test_bf16_follows_the_instruction_set(monkeypatch: pytest.MonkeyPatch, flag: str, bf16: bool) -> None:
    monkeypatch.setattr(hardware, "_instruction_sets", lambda: frozenset({"sse4_1", flag}))
    assert hardware.detect().bf16 is bf16


class Files:
    """Stands in for /proc and /sys: path -> content."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.content: dict[str, str] = {}
        monkeypatch.setattr(hardware, "_read", lambda file: self.content.get(Path(file).as_posix(), ""))


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setattr(hardware, "_allowed_cpus", lambda: frozenset(range(8)))
    monkeypatch.setattr(hardware, "_physical_cores", lambda allowed: len(allowed) // 2)
    return Files(monkeypatch)


def test_no_container_no_limit(files: Files) -> None:
    assert hardware._cores() == 4
    assert hardware._memory()[0] == psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("quota", "cores"), [("300000 100000", 3), ("250000 100000", 2), ("50000 100000", 1), ("max 100000", 4), ("900000 100000", 4)]
)
def test_cpu_quota_of_cgroup_v2(files: Files, quota: str, cores: int) -> None:
    files.content |= {"/proc/self/cgroup": "0::/pod/me", "/sys/fs/cgroup/pod/cpu.max": quota}
    assert hardware._cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("200000", 2), ("-1", 4)])
def test_cpu_quota_of_cgroup_v1(files: Files, quota: str, cores: int) -> None:
    files.content |= {
        "/proc/self/cgroup": "4:cpu,cpuacct:/me\n3:memory:/me",
        "/sys/fs/cgroup/cpu/me/cpu.cfs_quota_us": quota,
        "/sys/fs/cgroup/cpu/me/cpu.cfs_period_us": "100000",
    }
    assert hardware._cores() == cores


def test_memory_limit_of_cgroup_v2_on_any_level(files: Files) -> None:
    files.content |= {
        "/proc/self/cgroup": "0::/pod/me",
        "/sys/fs/cgroup/pod/me/memory.max": "max",
        "/sys/fs/cgroup/pod/memory.max": str(GIB),
        "/sys/fs/cgroup/pod/memory.current": str(GIB // 2),
        "/sys/fs/cgroup/pod/memory.stat": f"anon 1\ninactive_file {GIB // 4}\nactive_file 7",
    }
    assert hardware._memory() == (GIB, GIB // 2 + GIB // 4)


def test_memory_limit_of_cgroup_v1(files: Files) -> None:
    files.content |= {
        "/proc/self/cgroup": "3:memory:/host/path/of/me",  # inside a container this path isn't there, the root is the container's
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": str(GIB),
        "/sys/fs/cgroup/memory/memory.usage_in_bytes": str(GIB // 4),
    }
    assert hardware._memory() == (GIB, GIB - GIB // 4)


def test_number_that_means_no_limit(files: Files) -> None:
    files.content |= {"/proc/self/cgroup": "3:memory:/", "/sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096)}
    assert hardware._memory()[0] == psutil.virtual_memory().total


@pytest.mark.parametrize("line", ["flags\t\t: fpu AVX2 avx512_bf16", "Features\t: fp asimd bf16"])
def test_instruction_sets_on_linux(files: Files, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    files.content["/proc/cpuinfo"] = f"processor : 0\n{line}\nbugs : none"
    assert hardware._instruction_sets() == frozenset(line.partition(":")[2].lower().split())


def test_instruction_sets_on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(
        hardware, "_run_sysctl", lambda name: "hw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.FEAT_SME: 0" if "hw" in name else ""
    )
    assert hardware._instruction_sets() == frozenset({"feat_bf16"})


@pytest.mark.skipif(not psutil.LINUX, reason="reads /sys of Linux")
def test_two_threads_of_a_core_are_one_core() -> None:
    assert hardware._physical_cores(frozenset({0})) == 1
    assert 1 <= hardware._physical_cores(hardware._allowed_cpus()) <= len(hardware._allowed_cpus())
