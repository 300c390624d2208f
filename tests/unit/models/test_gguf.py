"""GGUF files: the head that is checked first, and the weights that come out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quantize

from tunesmith.errors import ModelError
from tunesmith.models.gguf import read_gguf_head, reading_once
from tunesmith.models.sources import resolve_model

WEIGHTS = {
    "a.weight": (np.arange(96, dtype=np.float32).reshape(3, 32) / 7, GGMLQuantizationType.Q8_0),
    "b.bias": (np.ones(5, np.float32), None),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A GGUF file with metadata of all kinds, a quantized weight and a plain one."""
    writer = GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_block_count(2)
    writer.add_float32("x.float", 0.5)
    writer.add_bool("x.bool", True)
    writer.add_array("x.texts", ["a", "bc", ""])
    writer.add_array("x.numbers", [1, 2, 3])
    writer.add_string("x.text", "grüße")
    for name, (values, kind) in WEIGHTS.items():
        writer.add_tensor(name, values if kind is None else quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "model.gguf"


def test_head_says_what_the_reader_says(file: Path) -> None:
    head, reader = read_gguf_head(file), GGUFReader(file)
    assert head.fields == {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "x.float": 0.5,
        "x.bool": True,
        "x.text": "grüße",
    }
    assert head.num_tensors == len(reader.tensors)
    last = reader.tensors[-1]
    assert head.size_bytes == last.data_offset + last.n_bytes


def test_whole_file_is_accepted(file: Path) -> None:
    assert resolve_model(file).kind == "gguf"


def test_every_cut_is_noticed(file: Path) -> None:
    whole, end = file.read_bytes(), read_gguf_head(file).size_bytes
    for kept in [*range(0, 400, 7), end - 1]:
        file.write_bytes(whole[:kept])
        with pytest.raises(ModelError, match=r"not a GGUF file|cut off"):
            resolve_model(file)


def test_unknown_version(file: Path) -> None:
    file.write_bytes(b"GGUF" + (9).to_bytes(4, "little") + file.read_bytes()[8:])
    with pytest.raises(ModelError, match="can't be read: it starts with b'GGUF', version 9"):
        resolve_model(file)


def test_no_weights(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "vocabulary.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelError, match="without a model in it"):
        resolve_model(tmp_path / "vocabulary.gguf")


def test_text_that_calls_itself_gguf(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("this is not a model")
    with pytest.raises(ModelError, match=r"model\.gguf is not a GGUF file"):
        resolve_model(tmp_path / "model.gguf")


def test_file_is_parsed_once(file: Path) -> None:
    import gguf

    with reading_once():
        assert gguf.GGUFReader(file) is gguf.GGUFReader(file)
    assert gguf.GGUFReader is GGUFReader
