"""What the libraries below say stays below, and their settings are given back."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings

import pytest
from transformers.utils import logging as transformers_logging

from tunesmith.models.quiet import quiet_libraries


def chatter_and_fail() -> None:
    transformers_logging.get_logger("transformers.x").error("an advice")
    logging.getLogger("huggingface_hub.x").warning("a warning")
    warnings.warn("a warning", UserWarning, stacklevel=1)
    list(transformers_logging.tqdm([1, 2], desc="a bar"))
    raise KeyError


def test_quiet_inside_and_as_before_outside(capfd: pytest.CaptureFixture[str]) -> None:
    transformers_logging.enable_progress_bar()
    before = transformers_logging.get_verbosity(), logging.getLogger("huggingface_hub").level
    with pytest.raises(KeyError), quiet_libraries():
        chatter_and_fail()
    assert capfd.readouterr() == ("", "")
    assert (transformers_logging.get_verbosity(), logging.getLogger("huggingface_hub").level) == before
    assert transformers_logging.is_progress_bar_enabled()


def test_bars_that_were_off_stay_off() -> None:
    transformers_logging.disable_progress_bar()
    try:
        with quiet_libraries():
            pass
        assert not transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.enable_progress_bar()


def test_bars_can_be_let_be() -> None:
    with quiet_libraries(bars=True):
        assert transformers_logging.is_progress_bar_enabled()


def test_advice_about_kernels_is_dropped_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    import tunesmith.models  # noqa: F401

    log = logging.getLogger("bitsandbytes.backends.cpu.ops")
    log.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s", "no module named kernels")
    log.warning("something else")
    assert caplog.messages == ["something else"]


def test_importing_peft_says_nothing() -> None:
    pytest.importorskip("bitsandbytes")
    code = "import logging; logging.basicConfig(); import tunesmith.models; import peft.tuners.lora.bnb"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr == ""
