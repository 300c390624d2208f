"""An adapter in a graph: what it adds is what it adds in training, in every precision that it is kept in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tunesmith.errors import ModelError
from tunesmith.export.low_rank_nodes import AdapterPrecision, LowRank, Part, add_low_rank, block_diagonal, quantize_8bits

INPUTS, WIDTH = 48, 40
RANDOM = np.random.default_rng(0)


def matrix(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype(np.float32)


def parts() -> list[Part]:
    """Two of three layers in one product; the one between has no adapter."""
    return [
        Part("q_proj", LowRank(matrix(4, INPUTS), matrix(24, 4)), 0, WIDTH),
        Part("v_proj", LowRank(matrix(8, INPUTS), matrix(8, 8)), 32, WIDTH),
    ]


def graph(weight: Any, *, relu: bool = True) -> ir.Model:
    """``y = x W``, with something behind it or not."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h" if relu else "y"], name="/qkv_proj/MatMul")]
    nodes += [helper.make_node("Relu", ["h"], ["y"])] if relu else []
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "tokens", INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "tokens", WIDTH])],
        [numpy_helper.from_array(weight, "w")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return cast("ir.Model", ir.from_proto(helper.make_model(made, opset_imports=opsets, ir_version=10)))


def run(model: ir.Model, x: Any, tmp_path: Path) -> Any:
    ir.save(model, tmp_path / "model.onnx")
    onnx.checker.check_model(str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_outputs()] == ["y"]
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("relu", [True, False], ids=["read by another node", "the graph's output"])
@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-5), ("fp16", 2e-3), ("int8", 2e-2)])
def test_what_is_added(precision: AdapterPrecision, error: float, relu: bool, tmp_path: Path) -> None:
    weight, added, x = matrix(INPUTS, WIDTH), parts(), matrix(2, 3, INPUTS)
    expected = x @ weight
    for part in added:
        expected[..., part.start : part.start + len(part.factors.b)] += x @ part.factors.a.T @ part.factors.b.T
    expected = np.maximum(expected, 0) if relu else expected
    model = graph(weight, relu=relu)
    add_low_rank(model.graph, model.graph[0], added, precision)
    found = run(model, x, tmp_path)
    assert np.abs(found - expected).max() <= error * np.abs(expected).max()
    assert np.abs(found - np.maximum(x @ weight, 0)).max() > 1  # the adapter counts


def test_half_precision_halves_the_file(tmp_path: Path) -> None:
    sizes = {}
    for precision in ("fp32", "fp16"):
        model = graph(np.zeros((INPUTS, WIDTH), np.float32))
        add_low_rank(model.graph, model.graph[0], parts(), precision)
        sizes[precision] = sum(
            value.const_value.nbytes for value in model.graph.initializers.values() if "lora" in value.name and "pads" not in value.name
        )
    assert sizes["fp16"] * 2 == sizes["fp32"] == 4 * (4 * INPUTS + 24 * 4 + 8 * INPUTS + 8 * 8)  # no zeros of the diagonal are kept


def test_what_half_precision_cannot_hold_is_refused() -> None:
    model = graph(matrix(INPUTS, WIDTH))
    large = [Part("q_proj", LowRank(matrix(4, INPUTS) * 1e6, matrix(WIDTH, 4)), 0, WIDTH)]
    with pytest.raises(ModelError, match=r"q_proj\.lora_A\.weight that float16 can't hold.*--adapter_precision fp32"):
        add_low_rank(model.graph, model.graph[0], large, "fp16")


def test_blocks_on_the_diagonal() -> None:
    added = parts()
    b = block_diagonal(added)
    assert b.shape == (WIDTH, 12)
    assert np.array_equal(b[:24, :4], added[0].factors.b)
    assert np.array_equal(b[32:, 4:], added[1].factors.b)
    assert np.count_nonzero(b) == 24 * 4 + 8 * 8


def test_eight_bits_are_within_half_a_step() -> None:
    values = matrix(5, 40)
    values[0, :16] = 0
    codes, scales = quantize_8bits(values, 16)
    assert codes.shape == (5, 3, 16)
    back = ((codes.astype(np.float32) - 128) * scales[..., None]).reshape(5, 48)
    assert np.abs(back[:, :40] - values).max() <= scales.max() / 2 + 1e-7
    assert not back[:, 40:].any()
    assert not back[0, :16].any()
