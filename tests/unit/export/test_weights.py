"""Weights read back out of exports: rounding is told from change, and the layer is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny_models import save_tiny, tiny_model
from tunesmith.export.blame import audit_onnx, layer_name, onnx_weights
from tunesmith.export.weights import Audit, LayerError, TunedWeights, audit

pytest.importorskip("onnxruntime_genai", reason="needs onnxruntime-genai (extra 'cpu')")
OPTIONS: dict[str, Any] = {"hidden_size": 64}


def build(precision: str, folder: Path) -> Path:
    """What the model builder writes of a tiny model."""
    from tunesmith.export.decoder import run_builder
    from tunesmith.export.targets import Recipe

    (folder / precision).mkdir()
    plain = save_tiny("smollm", folder / "plain", **OPTIONS) if not (folder / "plain").exists() else folder / "plain"
    run_builder(plain, folder / precision, Recipe("model_builder", precision, {"execution_provider": "cpu"}))
    return folder / precision / "model.onnx"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("built")
    return {precision: build(precision, folder) for precision in ("fp32", "int4")}


def tuned() -> Any:
    return tiny_model("smollm", **OPTIONS)


def flip(file: Path, tensor: str, place: int, value: int, copy: Path) -> Path:
    """Copy an export and change one byte of one weight in its data file."""
    import onnx

    copy.mkdir()
    for part in file.parent.iterdir():
        (copy / part.name).write_bytes(part.read_bytes())
    stored = next(one for one in onnx.load(str(file), load_external_data=False).graph.initializer if one.name == tensor)
    start = int(next(entry.value for entry in stored.external_data if entry.key == "offset"))
    data = bytearray((copy / f"{file.name}.data").read_bytes())
    data[start + place] ^= value
    (copy / f"{file.name}.data").write_bytes(bytes(data))
    return copy / file.name


def test_every_matrix_is_found_and_the_same(built: dict[str, Path]) -> None:
    exact = audit_onnx(built["fp32"], tuned)
    assert not exact.unmatched
    assert len(exact.layers) >= 16
    assert all(layer.largest == 0 for layer in exact.layers)
    assert exact.failure("float") is None
    assert exact.blame().startswith("no layer can be blamed")


def test_rounding_is_no_change(built: dict[str, Path]) -> None:
    found = audit_onnx(built["int4"], tuned)
    quantized = [layer for layer in found.layers if layer.quantized]
    assert not found.unmatched
    assert len(quantized) == 11
    assert all(0.9 < (layer.overrun or 0) <= 1.001 and 0.05 < layer.relative < 0.12 for layer in quantized)
    assert found.failure("quantized") is None
    assert found.failure("shown") is None
    assert "lost most: its weights are" in found.blame()
    assert Audit(found.layers, on_grid=True).failure("grid") is not None  # these are not the tuned model's own values


@pytest.mark.parametrize(
    ("precision", "tensor", "place", "bit", "layer"),
    [
        ("fp32", "model.layers.1.mlp.down_proj.MatMul.weight", 403, 0x80, "model.layers.1.mlp.down_proj.weight"),  # a sign
        ("fp32", "model.layers.0.attn.qkv_proj.MatMul.weight", 2, 0x40, "model.layers.0.attn.qkv_proj.weight"),  # a digit
        ("int4", "model.layers.1.mlp.up_proj.MatMul.weight_Q4", 77, 0x04, "model.layers.1.mlp.up_proj.weight"),  # four codes
        ("int4", "model.layers.0.attn.o_proj.MatMul.weight_scales", 3, 0x80, "model.layers.0.attn.o_proj.weight"),  # a scale's sign
        ("int4", "model.layers.0.input_layernorm.weight", 6, 0x20, "model.layers.0.input_layernorm.weight"),
    ],
)
def test_one_flipped_bit_names_its_layer(
    built: dict[str, Path], tmp_path: Path, precision: str, tensor: str, place: int, bit: int, layer: str
) -> None:
    found = audit_onnx(flip(built[precision], tensor, place, bit, tmp_path / "flipped"), tuned)
    failure = found.failure("float" if precision == "fp32" else "quantized")
    assert failure is not None
    assert layer in failure


def test_another_model_is_not_rounding(built: dict[str, Path]) -> None:
    failure = audit_onnx(built["int4"], lambda: tiny_model("smollm", seed=1, **OPTIONS)).failure("quantized")
    assert failure is not None
    assert "it was changed, not rounded, and those of" in failure


def test_calibrated_weights_are_blamed_but_not_judged(built: dict[str, Path]) -> None:
    found = audit_onnx(built["int4"], lambda: tiny_model("smollm", seed=1, **OPTIONS), rounded=False)
    assert [layer for layer in found.layers if layer.overrun and layer.overrun > 1]
    assert found.failure("quantized") is None
    assert "lost most" in found.blame()


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("model.layers.0.attn.qkv_proj.MatMul.weight_Q4", "model.layers.0.attn.qkv_proj.weight"),
        ("model.layers.3.attn.q_proj.Add.bias", "model.layers.3.attn.q_proj.bias"),
        ("lm_head.MatMul.weight", "lm_head.weight"),
        ("model.layers.0.self_attn.q_proj.lora_A.int8", "model.layers.0.self_attn.q_proj.lora_A.weight"),
        ("model.embed_tokens.weight", "model.embed_tokens.weight"),
    ],
)
def test_names(name: str, plain: str) -> None:
    assert layer_name(name) == plain


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero_points", [False, True])
def test_blocks_are_read_as_onnxruntime_computes_them(tmp_path: Path, bits: int, zero_points: bool) -> None:
    """The product of the operator with the identity is the matrix that was read."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper, save

    rows, inputs, block = 6, 64, 32
    random = np.random.default_rng(0)
    codes = random.integers(0, 256, (rows, inputs // block, block * bits // 8), dtype=np.uint8)
    scales = random.normal(size=rows * inputs // block).astype(np.float32)
    stored = {"w_Q4": codes, "w_scales": scales}
    if zero_points:
        stored["w_zp"] = random.integers(0, 256, rows * (-(-inputs // block * bits // 8)), dtype=np.uint8)
    node = helper.make_node("MatMulNBits", ["x", *stored], ["y"], domain="com.microsoft", K=inputs, N=rows, bits=bits, block_size=block)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", inputs), ("y", rows))]
    graph = helper.make_graph([node], "g", values[:1], values[1:], [numpy_helper.from_array(value, name) for name, value in stored.items()])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "m.onnx")
    ((_, read, reach, _),) = onnx_weights(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    (product,) = session.run(None, {"x": np.eye(inputs, dtype=np.float32)})
    np.testing.assert_allclose(product.T, read, rtol=1e-4, atol=1e-5)
    assert reach is not None
    assert reach.shape == read.shape


def test_what_no_name_says_is_counted() -> None:
    weight = np.ones((2, 2), dtype=np.float32)
    found = audit(
        [("a.weight", weight, None, 1e-5), ("b.weight", weight, None, 1e-5)], lambda name, shape: weight * 2 if name == "a.weight" else None
    )
    assert found.unmatched == ("b.weight",)
    assert (
        found.blame()
        == "layer a.weight lost most: its weights are 50.0% off (the middle one of 1 layers 50.0%); 1 matrices could not be compared"
    )
    broken = LayerError("a", 1.0, float("nan"), 1.0)
    assert broken.differs


def test_an_adapter_beside_the_weights_is_compared_as_the_graph_has_it() -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(tiny_model("llama"), LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    weights = TunedWeights(model)
    shapes = {"A": (4, 32), "B": (64, 4)}
    layer = model.base_model.model.model.layers[0].self_attn
    a, b = (weights(f"model.layers.0.self_attn.q_proj.lora_{which}.weight", shapes[which]) for which in "AB")
    assert a is not None
    assert b is not None
    joined = b @ a
    for place, part in ((slice(0, 32), layer.q_proj), (slice(48, 64), layer.v_proj)):
        np.testing.assert_allclose(joined[place], part.get_delta_weight("default").detach().numpy(), rtol=1e-5, atol=1e-6)
    assert not joined[32:48].any()  # k has no adapter
    alone = weights("model.layers.0.self_attn.q_proj.lora_A.weight", (2, 32))
    assert alone is not None
    np.testing.assert_array_equal(alone, a[:2])
    whole = weights("model.layers.0.attn.qkv_proj.weight", (64, 32))
    assert whole is not None
    np.testing.assert_array_equal(whole[:32], layer.q_proj.base_layer.weight.detach().numpy())
