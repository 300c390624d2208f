"""``--format gguf``: what it refuses, and the folder that it makes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tiny_models import EOS, save_tiny
from tunesmith.errors import UsageError
from tunesmith.export.gguf_folder import build_gguf, gguf_sections, gguf_target, ships_as_trained
from tunesmith.export.source import ExportSource, read_source


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ExportSource:
    """A plain folder with a tiny model."""
    return read_source(str(save_tiny("smollm", tmp_path_factory.mktemp("models") / "tiny")))


def target(source: ExportSource, precision: str | None = None, device: str | None = None, **without_effect: Any) -> tuple[str, str]:
    found, recipe = gguf_target(source, device=device, precision=precision, without_effect=without_effect)
    assert recipe.builder == "gguf"
    assert recipe.precision == found.precision
    return found.device, found.precision


def test_precisions_by_either_name(source: ExportSource) -> None:
    names = {None: "q8_0", "fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "q8_0", "int4": "q4_0", "q5_1": "q5_1"}
    assert {name: target(source, name)[1] for name in names} == names
    assert target(source, device="gpu") == ("gpu", "q8_0")


def test_trained_on_the_grid_ships_on_the_grid(source: ExportSource) -> None:
    on_grid = replace(source, grid={"quant_type": "gguf-q4_0"})
    assert target(on_grid)[1] == "q4_0"
    assert ships_as_trained(on_grid, "q4_0")
    assert not ships_as_trained(on_grid, "q8_0")
    assert not ships_as_trained(replace(source, grid={"quant_type": "onnx-int4"}), "q4_0")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "one flag": ({"provider": "CUDAExecutionProvider"}, r"^--provider has no effect with --format gguf\. Leave them out"),
    "two flags": ({"block_size": 32, "extra_options": {"a": 1}}, "^--block_size, --extra_options have no effect with --format gguf"),
    "a flag that is off": ({"use_ort_genai": False}, "--use_ort_genai has no effect"),
    "npu": ({"device": "npu"}, r"--device npu is not possible with --format gguf: llama\.cpp runs on cpu and gpu"),
    "k-quant": ({"precision": "q4_k_m"}, "can only be made by llama.cpp's own llama-quantize"),
    "unknown": ({"precision": "int3"}, "GGUF has no format 'int3'; these can be written: f32, f16, bf16, q8_0"),
}


@pytest.mark.parametrize(("options", "words"), BAD.values(), ids=BAD)
def test_what_is_refused(source: ExportSource, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        target(source, **options)


def test_flags_that_were_not_given_are_no_matter(source: ExportSource) -> None:
    assert target(source, provider=None, dim_param={}, extra_options={}, block_size=None) == ("cpu", "q8_0")


@pytest.mark.parametrize("kind", ["head", "encoder-decoder"])
def test_models_that_write_no_text_of_their_own(source: ExportSource, kind: Any) -> None:
    with pytest.raises(UsageError, match=f"--format gguf is for models that write text, this is a {kind}"):
        target(replace(source, kind=kind))


def test_folder(source: ExportSource, tmp_path: Path) -> None:
    _, recipe = gguf_target(source, device=None, precision="q5_0", without_effect={})
    build_gguf(source, tmp_path, recipe)
    assert {"model.gguf", "Modelfile", "tokenizer.json"} <= {file.name for file in tmp_path.iterdir()}
    assert f'PARAMETER stop "{EOS}"' in (tmp_path / "Modelfile").read_text(encoding="utf-8")


def test_readme_says_how_to_run_it(source: ExportSource) -> None:
    prompt = json.dumps(source.template.prompt("…", source.tokenizer), ensure_ascii=False)
    text = gguf_sections(source, "mine", "q8_0")
    assert text.count(prompt) == 2  # in Python and in C#
    assert "ollama create mine -f Modelfile" in text
    beside = gguf_sections(replace(source, grid={"quant_type": "gguf-q4_0"}), "mine", "q4_0")
    assert "--lora adapter.gguf" in beside
    assert 'lora_path="adapter.gguf"' in beside
    assert "C#" not in beside
