"""A graph that exists already: simplified, with fixed shapes, in 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tunesmith.errors import ModelError, UsageError
from tunesmith.export.onnx_input import build_from_onnx, is_onnx

pytestmark = pytest.mark.unit

WIDTH = 64


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A graph of one product, and of a sum of constants that can be computed beforehand."""
    random = np.random.default_rng(0)
    weights = {"w": random.normal(size=(WIDTH, WIDTH)), "a": random.normal(size=WIDTH), "b": random.normal(size=WIDTH)}
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["a", "b"], ["bias"]),
            helper.make_node("MatMul", ["x", "w"], ["product"], name="product"),
            helper.make_node("Add", ["product", "bias"], ["y"]),
        ],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", WIDTH])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    path = tmp_path / "in" / "model.onnx"
    path.parent.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    (path.parent / "vocab.txt").write_text("a\n")
    (path.parent / "manifest.json").write_text("{}")
    return path


def run(path: Path, rows: int) -> Any:
    x = np.random.default_rng(1).normal(size=(rows, WIDTH)).astype(np.float32)
    return onnxruntime.InferenceSession(path).run(None, {"x": x})[0]


def made(source: Path, tmp_path: Path, precision: str = "fp32", **dimensions: int) -> Path:
    folder = tmp_path / f"out-{precision}-{len(dimensions)}"
    folder.mkdir()
    build_from_onnx(source, folder, precision, dimensions)
    return folder / "model.onnx"


def test_what_can_be_computed_beforehand_is(file: Path, tmp_path: Path) -> None:
    assert is_onnx(file)
    assert is_onnx(file.parent)
    assert not is_onnx(tmp_path / "nothing")
    found = made(file, tmp_path)
    assert [node.op_type for node in onnx.load(found).graph.node] == ["MatMul", "Add"]
    assert np.array_equal(run(found, 3), run(file, 3))


def test_a_folder_keeps_what_lies_beside_the_graph_but_not_the_old_manifest(file: Path, tmp_path: Path) -> None:
    found = made(file.parent, tmp_path)
    assert sorted(path.name for path in found.parent.iterdir()) == ["model.onnx", "vocab.txt"]


def test_int8_is_near_and_smaller(file: Path, tmp_path: Path) -> None:
    found = made(file, tmp_path, "int8")
    assert "MatMulInteger" in {node.op_type for node in onnx.load(found).graph.node}
    assert found.stat().st_size < 0.6 * file.stat().st_size
    expected = run(file, 5)
    assert 0 < float(np.abs(run(found, 5) - expected).max()) < 0.1 * float(np.abs(expected).max())


def test_a_dimension_is_fixed(file: Path, tmp_path: Path) -> None:
    found = made(file, tmp_path, batch=3)
    assert onnxruntime.InferenceSession(found).get_inputs()[0].shape == [3, WIDTH]
    assert np.array_equal(run(found, 3), run(file, 3))
    assert onnxruntime.InferenceSession(file).get_inputs()[0].shape[0] == "batch"  # the source stays as it was


def test_what_cant_be_done_is_said(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--precision int4.*There is: fp32, int8"):
        made(file, tmp_path, "int4")
    with pytest.raises(UsageError, match=r"--dim_param rows is no dimension.*They are: batch"):
        made(file, tmp_path, rows=3)
    small = made(file, tmp_path, "int8")
    with pytest.raises(UsageError, match=r"quantized already \(it has MatMulInteger\)"):
        build_from_onnx(small, tmp_path, "int8")
    content = file.read_bytes()
    for broken in (content[:200], b""):
        file.write_bytes(broken)
        with pytest.raises(ModelError, match=r"model\.onnx"):
            build_from_onnx(file, tmp_path, "fp32")
    (file.parent / "genai_config.json").write_text("{}")
    with pytest.raises(UsageError, match="made for onnxruntime-genai"):
        build_from_onnx(file.parent, tmp_path, "int8")
