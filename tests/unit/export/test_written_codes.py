"""Any recipe from one int4 folder: logits are PyTorch's with the values of the codes, and one flipped code is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tiny_models import save_tiny, tiny_model
from tunesmith.errors import ModelError
from tunesmith.export.codes_audit import audit_codes
from tunesmith.export.decoder import build_decoder
from tunesmith.export.folder import write_extras
from tunesmith.export.plan import Request, plans_for
from tunesmith.export.recipes.blocks import BlockFormat, Blocks
from tunesmith.export.recipes.recipe import quantized_values
from tunesmith.export.recipes.rounding import round_to_nearest
from tunesmith.export.source import read_source
from tunesmith.export.written_codes import write_codes
from tunesmith.runtime.load import load

pytest.importorskip("onnxruntime_genai", reason="needs onnxruntime-genai (extra 'cpu')")

#: onnxruntime's attention takes heads of 16 or a multiple; 72 is no multiple of any block size, so that rows are filled up.
_HEADS = {"head_dim": 16, "query_pre_attn_scalar": 16}
CASES: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 64},
    "smollm": {"hidden_size": 72, "head_dim": 16},
    "phi3": {"hidden_size": 64, "tie_word_embeddings": False},
    "qwen2": {"hidden_size": 64, "tie_word_embeddings": False},
    "qwen3": {"hidden_size": 64, "head_dim": 16},
    "gemma2": {"hidden_size": 64, **_HEADS},
    "gemma3": {"hidden_size": 64, **_HEADS},
}
INT4 = BlockFormat(bits=4, block_size=32, symmetric=True)
INT8 = BlockFormat(bits=8, block_size=32, symmetric=True)
FORMATS = (
    BlockFormat(bits=4, block_size=16, symmetric=False),
    BlockFormat(bits=8, block_size=64, symmetric=True),
    BlockFormat(bits=4, block_size=128, symmetric=True),
    BlockFormat(bits=8, block_size=32, symmetric=False),
    BlockFormat(bits=4, block_size=256, symmetric=False),
)
IDS = list(range(40, 100))


def build(folder: Path, family: str, **options: Any) -> Path:
    """The int4 folder that the model builder makes of a tiny model; its products take activations in float32 unless told otherwise."""
    found = read_source(save_tiny(family, folder / "model", **CASES[family]))
    plan = plans_for(found, Request(precision="int4", extra_options={"accuracy_level": 1, **options}))[0]
    (folder / "int4").mkdir()
    build_decoder(found, folder / "int4", plan.recipe)
    write_extras(found, folder / "int4", plan, name="int4")
    return folder / "int4"


def rounded(model: nn.Module, choose: Callable[[str], BlockFormat]) -> dict[str, Blocks]:
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return {name: round_to_nearest(module.weight.detach(), choose(name)) for name, module in layers}


def mixed(start: int) -> Callable[[str], BlockFormat]:
    """Another format for every product: q, k and v of a layer are one."""
    chosen: dict[str, BlockFormat] = {}

    def choose(name: str) -> BlockFormat:
        product = name.replace("q_proj", "qkv").replace("k_proj", "qkv").replace("v_proj", "qkv")
        return chosen.setdefault(product, FORMATS[(start + len(chosen)) % len(FORMATS)])

    return choose


def written(skeleton: Path, folder: Path, blocks: dict[str, Blocks]) -> Path:
    folder.mkdir()
    write_codes(skeleton, folder, blocks)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tiny"), "smollm")


def tiny_smollm() -> nn.Module:
    return tiny_model("smollm", **CASES["smollm"])


@pytest.mark.parametrize("family", CASES)
def test_logits_are_those_of_the_codes(family: str, tmp_path: Path) -> None:
    skeleton, model = build(tmp_path, family), tiny_model(family, **CASES[family])
    for start in (0, 3):  # the output layer, which comes last, has 8 bits once and 4 bits once
        blocks = rounded(model, mixed(start))
        folder = written(skeleton, tmp_path / f"mixed-{start}", blocks)
        with quantized_values(model, blocks) as exact, torch.inference_mode():
            expected = exact(torch.tensor([IDS])).logits[0].numpy()
        runtime = load(folder)
        found = next(iter(runtime.token_logits([IDS])))
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
        audit = audit_codes(folder / "model.onnx", lambda: tiny_model(family, **CASES[family]), blocks)
        assert not audit.unmatched
        assert len([layer for layer in audit.layers if layer.quantized]) >= 9
        assert audit.failure("quantized") is None
    assert runtime.generate(["The train"], max_new_tokens=4)[0].num_tokens >= 1


def test_the_builders_own_codes_give_the_builders_own_folder(tiny: Path, tmp_path: Path) -> None:
    folder = written(tiny, tmp_path / "same", rounded(tiny_smollm(), lambda _: INT4))
    assert np.array_equal(*(next(iter(load(path).token_logits([IDS]))) for path in (tiny, folder)))
    assert json.loads((folder / "genai_config.json").read_text()) == json.loads((tiny / "genai_config.json").read_text())
    assert {file.name for file in tiny.iterdir()} - {file.name for file in folder.iterdir()} == {"manifest.json", "README.md"}


def test_activations_in_8_bits_cost_little(tmp_path: Path) -> None:
    skeleton, model = build(tmp_path, "llama", accuracy_level=4), tiny_model("llama", **CASES["llama"])
    blocks = rounded(model, mixed(1))
    with quantized_values(model, blocks) as exact, torch.inference_mode():
        expected = exact(torch.tensor([IDS])).logits[0].numpy()
    found = next(iter(load(written(skeleton, tmp_path / "out", blocks)).token_logits([IDS])))
    assert 1e-5 < np.abs(found - expected).max() / np.abs(expected).max() < 0.1


def test_the_data_file_has_the_size_of_the_codes(tiny: Path, tmp_path: Path) -> None:
    model = tiny_smollm()
    sizes = {}
    for stored in (INT4, INT8):
        blocks = rounded(model, lambda _, stored=stored: stored)  # type: ignore[misc]
        folder = written(tiny, tmp_path / stored.name, blocks)
        sizes[stored] = (folder / "model.onnx.data").stat().st_size
        assert 0 < sizes[stored] - sum(one.size_bytes for one in blocks.values()) < 25_000  # norms, and the tables of positions
    assert sizes[INT8] > 1.5 * sizes[INT4] - 25_000


def test_a_product_in_floating_point_stays_or_takes_codes(tmp_path: Path) -> None:
    name = "model.layers.1.mlp.down_proj"
    skeleton, model = (
        build(tmp_path, "llama", nodes_to_exclude="/model/layers.1/mlp/down_proj/MatMul"),
        tiny_model("llama", **CASES["llama"]),
    )
    blocks = rounded(model, lambda _: INT8)
    for number, chosen in enumerate((blocks, {key: value for key, value in blocks.items() if key != name})):
        folder = written(skeleton, tmp_path / str(number), chosen)
        with quantized_values(model, chosen) as exact, torch.inference_mode():
            expected = exact(torch.tensor([IDS])).logits[0].numpy()
        found = next(iter(load(folder).token_logits([IDS])))
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
        audit = audit_codes(folder / "model.onnx", lambda: tiny_model("llama", **CASES["llama"]), chosen)
        assert audit.failure("quantized") is None
        assert [layer.name for layer in audit.layers if not layer.quantized and "down_proj" in layer.name] == [f"{name}.weight"][:number]


@pytest.mark.parametrize(
    ("layer", "part", "place"),
    [
        ("model.layers.1.mlp.down_proj", "Q4", 3),
        ("model.layers.0.attn.qkv_proj", "Q8", 700),
        ("lm_head", "Q8", 4000),
        ("model.layers.0.mlp.up_proj", "scales", 2),
        ("model.layers.0.attn.o_proj", "zero_points", 1),
    ],
)
def test_one_changed_code_names_its_layer(tiny: Path, tmp_path: Path, layer: str, part: str, place: int) -> None:
    import onnx

    eight = {"q_proj", "k_proj", "v_proj", "lm_head"}
    asymmetric = BlockFormat(bits=4, block_size=32, symmetric=False)
    formats = {**dict.fromkeys(eight, INT8), "o_proj": asymmetric}
    blocks = rounded(tiny_smollm(), lambda name: formats.get(name.rpartition(".")[2], INT4))
    file = written(tiny, tmp_path / "out", blocks) / "model.onnx"
    assert audit_codes(file, tiny_smollm, blocks).failure("quantized") is None
    tensor = next(
        one for one in onnx.load(str(file), load_external_data=False).graph.initializer if one.name == f"{layer}.MatMul.weight_{part}"
    )
    data = bytearray((tmp_path / "out" / "model.onnx.data").read_bytes())
    data[int(next(entry.value for entry in tensor.external_data if entry.key == "offset")) + place] ^= 1
    (tmp_path / "out" / "model.onnx.data").write_bytes(bytes(data))
    failure = audit_codes(file, tiny_smollm, blocks).failure("quantized")
    assert failure is not None
    assert f"the weights of layer {layer}.weight are not the tuned model's" in failure


def test_codes_of_another_layer_are_found(tiny: Path, tmp_path: Path) -> None:
    blocks = rounded(tiny_smollm(), lambda _: INT4)
    first, second = (f"model.layers.{number}.mlp.up_proj" for number in (0, 1))
    file = written(tiny, tmp_path / "out", {**blocks, first: blocks[second], second: blocks[first]}) / "model.onnx"
    failure = audit_codes(file, tiny_smollm, blocks).failure("quantized")
    assert failure is not None
    assert "mlp.up_proj.weight are not the tuned model's" in failure
    assert "and those of 1 more layers too" in failure


def without(name: str) -> Callable[[dict[str, Blocks]], dict[str, Blocks]]:
    return lambda blocks: {key: value for key, value in blocks.items() if key != name}


def with_(name: str, change: Callable[[Blocks], Blocks]) -> Callable[[dict[str, Blocks]], dict[str, Blocks]]:
    return lambda blocks: {**blocks, name: change(blocks["model.layers.0.mlp.down_proj"])}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("model.layers.1.mlp.up_proj"), "there are no codes for model.layers.1.mlp.up_proj, which the graph keeps in 4 bits"),
        (without("lm_head"), "there are no codes for lm_head"),
        (without("model.layers.0.self_attn.k_proj"), "is one product in the graph, but there are no codes for .*k_proj"),
        (with_("model.layers.7.mlp.up_proj", lambda one: one), r"the graph has no product for model\.layers\.7\.mlp\.up_proj"),
        (with_("model.embed_tokens", lambda one: one), r"the graph has no product for model\.embed_tokens"),
        (with_("lm_head", lambda one: one), r"the codes of lm_head are \(72, 64\) outputs and inputs, node .* has \(384, 72\)"),
        (
            lambda blocks: {
                **blocks,
                "model.layers.0.self_attn.v_proj": rounded(tiny_smollm(), lambda _: INT8)["model.layers.0.self_attn.v_proj"],
            },
            r"its layers are stored in different ways \(.*int4, blocks of 32; .*v_proj: int8, blocks of 32\)\. Give all",
        ),
    ],
)
def test_blocks_that_do_not_fit_are_refused(
    tiny: Path, tmp_path: Path, change: Callable[[dict[str, Blocks]], dict[str, Blocks]], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        written(tiny, tmp_path / "out", change(rounded(tiny_smollm(), lambda _: INT4)))
    assert not list((tmp_path / "out").iterdir())


def test_skeletons_that_cannot_be_read_are_named(tiny: Path, tmp_path: Path) -> None:
    blocks = rounded(tiny_smollm(), lambda _: INT4)
    broken = tmp_path / "broken"
    broken.mkdir()
    with pytest.raises(ModelError, match=r"model\.onnx is no ONNX file that can be read"):
        written(broken, tmp_path / "1", blocks)
    (broken / "model.onnx").write_bytes((tiny / "model.onnx").read_bytes())
    with pytest.raises(ModelError, match=r"model\.onnx\.data is missing, which holds the weights of"):
        written(broken, tmp_path / "2", blocks)
    (broken / "model.onnx.data").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match=r"model\.onnx\.data ends before the weights of"):
        written(broken, tmp_path / "3", blocks)


def test_an_embedding_with_codes_of_its_own_is_refused(tmp_path: Path) -> None:
    skeleton = build(tmp_path, "smollm", nodes_to_exclude="/lm_head/MatMul")
    with pytest.raises(
        ModelError, match=r"codes of its own, not those of the output layer\. Build the int4 folder with the builder's usual"
    ):
        written(skeleton, tmp_path / "out", rounded(tiny_smollm(), lambda _: INT4))
