"""Keep the chatter of the libraries below us away from the user: their bars, hints and advice are not about what he asked for."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

_KERNEL_ADVICE = "Failed to load CPU gemm_4bit_forward"


def _isnt_kernel_advice(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_KERNEL_ADVICE)


def silence_kernel_advice() -> None:
    """Drop the warning with which bitsandbytes, imported on a CPU with bf16, advises to download a kernel.

    peft and transformers import bitsandbytes whenever it is installed, so a user who never asked for 4 bits would read it.
    Only that one record is dropped. Calling it again changes nothing.
    """
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_isnt_kernel_advice)


@contextlib.contextmanager
def quiet_libraries(*, bars: bool = False) -> Iterator[None]:
    """Inside the block transformers and huggingface_hub show no progress bar, no warning and no advice; then all is as before.

    What a user must know of it (missing weights, code from the hub, a cast) is checked and said by the caller.

    Args:
        bars: let their progress bars be, where they are enabled.
    """
    from transformers.utils import logging as transformers_logging

    hub_log = logging.getLogger("huggingface_hub")
    verbosity, hub_level = transformers_logging.get_verbosity(), hub_log.level
    switch_bars = not bars and transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    if switch_bars:
        transformers_logging.disable_progress_bar()  # those of huggingface_hub too
    hub_log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), _quiet_gguf_reader():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        hub_log.setLevel(hub_level)
        if switch_bars:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def _quiet_gguf_reader() -> Iterator[None]:
    # transformers' older reader of GGUF files draws its bar with tqdm directly, past the switch above; it is about to be retired
    try:
        from transformers import modeling_gguf_pytorch_utils as reader

        original = reader.tqdm
    except (ImportError, AttributeError):
        yield
        return
    reader.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        reader.tqdm = original
