"""The real sample model with some layers and the output layer in 8 bits: the size that was predicted, the codes that were chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tunesmith.export.codes_audit import audit_codes
from tunesmith.export.decoder import build_decoder
from tunesmith.export.folder import write_extras
from tunesmith.export.plan import Request, plans_for
from tunesmith.export.recipes.blocks import BlockFormat
from tunesmith.export.recipes.recipe import WeightRecipe, quantize, quantized_values, size_bytes
from tunesmith.export.source import float_model, read_source
from tunesmith.export.written_codes import write_codes
from tunesmith.runtime.load import load

pytest.importorskip("onnxruntime_genai", reason="needs onnxruntime-genai (extra 'cpu')")
pytestmark = pytest.mark.integration

HIGHER = ("model.layers.0.mlp.down_proj", "model.layers.29.mlp.down_proj")
#: Blocks of 128 don't divide the 576 inputs, so that rows are filled up; and these have zero points.
RECIPES = (
    WeightRecipe("rtn", BlockFormat(bits=4, block_size=32, symmetric=True), higher=HIGHER, head="int8"),
    WeightRecipe("rtn", BlockFormat(bits=4, block_size=128, symmetric=False)),
)
TEXT = "The capital of France is Paris. Water boils at one hundred degrees. The train to the city leaves at seven in the morning."


def test_mixed_recipes_ship_as_chosen(sample_model: Path, tmp_path: Path) -> None:
    source = read_source(str(sample_model))
    plan = plans_for(source, Request(precision="int4", extra_options={"accuracy_level": 1}))[0]  # activations in float32
    skeleton, model = tmp_path / "int4", float_model(source)
    skeleton.mkdir()
    build_decoder(source, skeleton, plan.recipe)
    for number, recipe in enumerate(RECIPES):
        folder, blocks = tmp_path / str(number), quantize(model, recipe)
        folder.mkdir()
        write_codes(skeleton, folder, blocks)
        write_extras(source, folder, plan, name=folder.name)
        size = sum((folder / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))
        assert size == pytest.approx(size_bytes(model, recipe), rel=0.02)
        audit = audit_codes(folder / "model.onnx", lambda: model, blocks)
        assert audit.failure("quantized") is None
        assert not audit.unmatched
        runtime = load(folder)
        ids = runtime.token_ids(TEXT)
        with quantized_values(model, blocks) as exact, torch.inference_mode():
            expected = exact(torch.tensor([ids])).logits[0].numpy()
        found = next(iter(runtime.token_logits([ids])))
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
        assert runtime.generate(["The capital of France is"], max_new_tokens=8)[0].num_tokens >= 1
