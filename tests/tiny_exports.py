"""Tiny exports, made once a test session: a Llama by onnxruntime-genai's model builder, and as GGUF."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
from pathlib import Path

import pytest

from tiny_models import save_tiny, tiny_model, tiny_tokenizer
from tunesmith.data.templates import Template

#: onnxruntime's attention computes heads of a multiple of 16.
HEAD_DIM = 16
PLAIN = Template(kind="text", text="{text}", answer_column="text")


@pytest.fixture(scope="session")
def genai_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 folder for onnxruntime-genai, as its model builder leaves it: without a template, a task or a manifest."""
    for package in ("onnxruntime_genai", "onnx_ir"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"exports for onnxruntime-genai need the package {package} (extra 'cpu')")
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    folder = tmp_path_factory.mktemp("genai")
    plain, cache = str(save_tiny("llama", folder / "plain", head_dim=HEAD_DIM)), str(folder / "cache")
    out = str(folder / "onnx")
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        options = parse_extra_options("", plain, out, "fp32", "cpu", cache, ["hf_token=false"])
        create_model("", plain, out, "fp32", "cpu", cache, **options)
    logging.disable(level)
    return folder / "onnx"


@pytest.fixture(scope="session")
def gguf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 GGUF folder."""
    if importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("GGUF files are run by llama-cpp-python (extra 'gguf'), which is not installed")
    from tunesmith.export.gguf_file import write_gguf

    folder = tmp_path_factory.mktemp("gguf")
    write_gguf(tiny_model("llama", head_dim=HEAD_DIM), tiny_tokenizer(), None, folder / "model.gguf", quant="f32")
    tiny_tokenizer().save_pretrained(folder)
    (folder / "manifest.json").write_text('{"kind": "gguf"}')
    return folder
