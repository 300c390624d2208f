"""Fewer page faults: glibc keeps the memory that a training step frees and takes again.

By default glibc returns large blocks to the kernel as soon as they are freed, and every step pays again for faulting their pages in.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import sys

log = logging.getLogger(__name__)

# Parameter numbers of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MIB = 1 << 20


def tune_allocator(*, mmap_threshold_bytes: int = 1024 * _MIB, trim_threshold_bytes: int = 1024 * _MIB) -> bool:
    """Tell glibc to keep freed memory for the next step.

    Returns: whether it was told; False on systems without glibc, or when the user has chosen by ``MALLOC_*``/``GLIBC_TUNABLES`` or
    preloaded another allocator. Harmless to call twice.
    """
    if not _is_glibc() or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")) for name in os.environ):
        return False
    libc = ctypes.CDLL(None)
    told = libc.mallopt(_M_MMAP_THRESHOLD, mmap_threshold_bytes) and libc.mallopt(_M_TRIM_THRESHOLD, trim_threshold_bytes)
    return bool(told)


def _is_glibc() -> bool:
    return sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
