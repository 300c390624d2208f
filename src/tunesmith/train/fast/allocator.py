"""Fewer page faults: glibc keeps the memory that a training step frees and takes again.

Blocks above a threshold are mapped from the kernel and given back as soon as they are freed, and so is free memory at the end of the heap:
every step then pays again for faulting the same pages in (1.5 microseconds each in a virtual machine, 4 KiB a page). With blocks up to
64 MiB taken from the heap, and 256 MiB of it kept when free, a step faults in next to nothing, and the peak doesn't rise: what is kept is
what the next step needs. Keeping everything (thresholds of gigabytes) brings no more and raises the peak by fragments.

The other leak of memory is oneDNN: for every shape of a product two caches of 1,024 entries each keep a prepared product with its scratch
memory (0.3 MB), and lying between the blocks of a step they keep the heap from closing up. Batches come in hundreds of sizes, a step needs
some 70 shapes.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys

#: Environment variables by which a user chooses an allocator or its parameters.
CHOICES = ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_ARENA_MAX", "LD_PRELOAD")

#: Prepared products that oneDNN keeps; it and torch read the sizes of their caches from the environment when the first product is taken.
_PREPARED_PRODUCTS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "LRU_CACHE_CAPACITY": "128"}

# Parameter numbers of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MIB = 1 << 20


def tune_allocator(*, mmap_threshold_bytes: int = 64 * _MIB, trim_threshold_bytes: int = 256 * _MIB) -> bool:
    """Tell glibc to keep freed memory for the next step, and oneDNN to forget the products of earlier steps.

    To be called before the first product is taken, or oneDNN isn't told; sizes that the user has set in the environment stand.

    Returns: whether glibc was told; False on systems without glibc, or when the user has made a choice of his own (`CHOICES`). Harmless to
    call twice.
    """
    for name, value in _PREPARED_PRODUCTS.items():
        os.environ.setdefault(name, value)
    if not _is_glibc() or any(os.environ.get(name) for name in CHOICES):
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_THRESHOLD, mmap_threshold_bytes) and libc.mallopt(_M_TRIM_THRESHOLD, trim_threshold_bytes))


def _is_glibc() -> bool:
    return sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
