"""Heads, embeddings and encoder-decoders as ONNX: the same numbers and answers as in PyTorch."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from exported_heads import LABELS, PAIRS, TEXTS, export_graph, save_headed, save_sequence
from tunesmith.errors import DependencyError, ModelError, UsageError
from tunesmith.export import graph
from tunesmith.export.graph_readme import graph_sections
from tunesmith.export.int8 import quantize_int8
from tunesmith.export.simplified import fix_dimensions, simplify
from tunesmith.export.source import read_source
from tunesmith.runtime.classifier import ClassifierRuntime
from tunesmith.runtime.embedder import EmbedderRuntime
from tunesmith.runtime.load import load
from tunesmith.runtime.onnx_session import Graph
from tunesmith.runtime.sequence_runtime import SequenceRuntime

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A BERT that scores labels, and its export."""
    folder = tmp_path_factory.mktemp("bert")
    source = save_headed("bert", "text-classification", folder / "model")
    return source, export_graph(source, folder / "onnx")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Llama that embeds, and its export."""
    folder = tmp_path_factory.mktemp("llama")
    source = save_headed("llama", "similarity", folder / "model")
    return source, export_graph(source, folder / "onnx")


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A T5, and its export."""
    folder = tmp_path_factory.mktemp("t5")
    source = save_sequence("t5", folder / "model")
    return source, export_graph(source, folder / "onnx")


def classifiers(folders: tuple[Path, Path]) -> tuple[ClassifierRuntime, ClassifierRuntime]:
    torch_runtime, onnx_runtime = load(folders[0], dtype="float32"), load(folders[1])
    assert isinstance(torch_runtime, ClassifierRuntime)
    assert isinstance(onnx_runtime, ClassifierRuntime)
    return torch_runtime, onnx_runtime


def logits(runtime: ClassifierRuntime, texts: list[str], batch_size: int | None) -> torch.Tensor:
    encoded = runtime.encode([(text,) for text in texts])
    found = {}
    for batch, _, output in runtime.outputs(*encoded, batch_size=batch_size):
        found.update(zip(batch, output.logits, strict=True))
    return torch.stack([found[place] for place in range(len(texts))])


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_head_gives_the_logits_of_pytorch_for_any_batch_and_length(bert: tuple[Path, Path], batch_size: int) -> None:
    ours, theirs = classifiers(bert)
    texts = [*TEXTS, "a longer text " * 40]
    expected = logits(ours, texts, batch_size)
    assert torch.allclose(logits(theirs, texts, batch_size), expected, atol=1e-5)
    assert expected.std() > 0.05  # else anything would be close


def test_an_export_answers_as_its_source(bert: tuple[Path, Path]) -> None:
    ours, theirs = classifiers(bert)
    assert theirs.kind == "onnx"
    assert theirs.task == ours.task
    assert [choice.labels for choice in theirs.choose(TEXTS)] == [choice.labels for choice in ours.choose(TEXTS)]
    assert theirs.choose(TEXTS)[0].probabilities == pytest.approx(ours.choose(TEXTS)[0].probabilities, abs=1e-5)
    assert theirs.generate(TEXTS) == ours.generate(TEXTS)


def test_the_graph_has_open_dimensions_and_no_notes_of_this_machine(bert: tuple[Path, Path]) -> None:
    opened = Graph(bert[1] / "model.onnx")
    assert opened.inputs["input_ids"] == ["batch_size", "sequence_length"]
    assert "token_type_ids" in opened.inputs  # a BERT that wasn't tuned here: its tokenizer gives them
    content = (bert[1] / "model.onnx").read_bytes()
    assert b"modeling_bert" not in content  # the exporter's notes of where on this machine each line was
    assert b"bert.encoder.layer.1.attention.self.query.weight" in content  # what is transposed has its name too
    assert opened.size_bytes == (bert[1] / "model.onnx").stat().st_size


def test_embeddings_are_those_of_pytorch_and_come_pooled_too(llama: tuple[Path, Path]) -> None:
    ours, theirs = load(llama[0], dtype="float32"), load(llama[1])
    assert isinstance(ours, EmbedderRuntime)
    assert isinstance(theirs, EmbedderRuntime)
    expected = ours.embed(TEXTS)
    assert np.allclose(theirs.embed(TEXTS), expected, atol=1e-5)
    rows = [{"text1": first, "text2": second} for first, second in PAIRS]
    assert theirs.similarities(rows) == pytest.approx(ours.similarities(rows), abs=1e-5)
    ids = torch.tensor(ours.encode([(TEXTS[0],)])[0])
    pooled = theirs.model(input_ids=ids, attention_mask=torch.ones_like(ids)).sentence_embedding
    assert np.allclose(pooled.numpy(), expected[:1], atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.9, "seed": 3}, {"temperature": 1.3, "top_p": 0.8, "seed": 1}])
def test_an_encoder_decoder_writes_what_pytorch_writes(t5: tuple[Path, Path], options: dict[str, float]) -> None:
    ours, theirs = load(t5[0], dtype="float32"), load(t5[1])
    assert isinstance(theirs, SequenceRuntime)
    assert (theirs.kind, theirs.template) == ("onnx", ours.template)
    assert theirs.with_template(ours.template).kind == "onnx"
    prompts = [{"document": text} for text in TEXTS]
    expected = ours.generate(prompts, max_new_tokens=16, **options)
    assert theirs.generate(prompts, max_new_tokens=16, **options) == expected
    assert len({answer.text for answer in expected}) > 1


def test_an_encoder_decoder_scores_what_pytorch_scores(t5: tuple[Path, Path]) -> None:
    pairs = [({"document": first}, second) for first, second in PAIRS]
    expected, found = (runtime.log_likelihoods(pairs) for runtime in (load(t5[0], dtype="float32"), load(t5[1])))
    assert [one.log_prob for one in found] == pytest.approx([one.log_prob for one in expected], rel=1e-4)
    assert [one.num_tokens for one in found] == [one.num_tokens for one in expected]


@pytest.mark.parametrize(("by_block", "operator"), [(False, "MatMulInteger"), (True, "MatMulNBits")])
def test_int8_is_smaller_and_says_the_same(bert: tuple[Path, Path], tmp_path: Path, by_block: bool, operator: str) -> None:
    folder = shutil.copytree(bert[1], tmp_path / "int8")
    shutil.copyfile(folder / "model.onnx", tmp_path / "float.onnx")
    quantize_int8(tmp_path / "float.onnx", folder / "model.onnx", by_block=by_block)
    made = onnx.load(folder / "model.onnx").graph
    assert sum(node.op_type == operator for node in made.node) == 14  # six in each of two blocks, two above
    assert {tensor.data_type for tensor in made.initializer if tensor.name.startswith("bert.embeddings.word")} == {1, 2}  # UINT8, a scale
    float_one, int8_one = (classifiers((bert[0], export))[1] for export in (bert[1], folder))
    assert int8_one.model.size_bytes < 0.6 * float_one.model.size_bytes
    expected, found = (logits(one, list(TEXTS), 5) for one in (float_one, int8_one))
    assert 0 < float((found - expected).abs().max()) < 0.15 * float(expected.std())
    best = expected.topk(2, dim=1).values
    clear = best[:, 0] - best[:, 1] > 0.1
    assert clear.sum() >= 2
    assert (found.argmax(dim=1) == expected.argmax(dim=1))[clear].all()


def test_an_encoder_decoder_in_int8_scores_nearly_the_same(t5: tuple[Path, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(t5[1], tmp_path / "int8")
    for name in ("encoder_model.onnx", "decoder_model.onnx"):
        shutil.copyfile(folder / name, tmp_path / name)
        quantize_int8(tmp_path / name, folder / name, by_block=True)
        assert (folder / name).stat().st_size < 0.8 * (tmp_path / name).stat().st_size
    pairs = [({"document": first}, second) for first, second in PAIRS]
    expected, found = ([one.log_prob for one in load(one).log_likelihoods(pairs)] for one in (t5[1], folder))
    assert found == pytest.approx(expected, rel=0.1)
    assert found != pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sizes", [{"batch_size": 2, "sequence_length": 96}, {"sequence_length": 96}, {"batch_size": 4}])
def test_fixed_shapes_give_the_same_numbers(bert: tuple[Path, Path], tmp_path: Path, sizes: dict[str, int]) -> None:
    folder = shutil.copytree(bert[1], tmp_path / "static")
    fix_dimensions(folder / "model.onnx", sizes)
    simplify(folder / "model.onnx", tmp_path / "model.onnx")
    shutil.copyfile(tmp_path / "model.onnx", folder / "model.onnx")
    assert Graph(folder / "model.onnx").inputs["input_ids"] == [sizes.get(name, name) for name in ("batch_size", "sequence_length")]
    ours, theirs = classifiers((bert[0], folder))
    assert torch.allclose(logits(theirs, list(TEXTS), None), logits(ours, list(TEXTS), None), atol=1e-5)
    if "sequence_length" in sizes:  # what is longer loses its end, as with any limit
        assert theirs.context_length == 96
        assert len(theirs.encode([("word " * 200,)])[0][0]) == 96


@pytest.mark.parametrize("precision", ["fp32", "int8", "int8 by block"])
def test_openvino_reads_fixed_shapes_and_gives_the_same_numbers(bert: tuple[Path, Path], tmp_path: Path, precision: str) -> None:
    """OpenVINO's CPU plug-in stands in for an NPU."""
    openvino = pytest.importorskip("openvino")
    raw, file = tmp_path / "raw.onnx", tmp_path / "model.onnx"
    shutil.copyfile(bert[1] / "model.onnx", raw)
    fix_dimensions(raw, {"batch_size": 1, "sequence_length": 24})
    simplify(raw, file)
    if precision != "fp32":
        quantize_int8(file, raw, by_block=precision.endswith("block"))
        file = raw
    assert "Shape" not in {node.op_type for node in onnx.load(file).graph.node}  # all that depends on sizes is computed
    ids = torch.arange(5, 29)[None]
    inputs = {"input_ids": ids, "attention_mask": (ids < 20).long(), "token_type_ids": torch.zeros_like(ids)}
    expected = Graph(file)(inputs)["logits"]
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert not compiled.inputs[0].partial_shape.is_dynamic
    assert np.allclose(compiled({name: value.numpy() for name, value in inputs.items()})[0], expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("model", ["bert", "t5"])
def test_the_code_in_the_readme_gives_the_answer(model: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder = request.getfixturevalue(model)
    text = graph_sections(read_source(source))
    code = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(folder)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(code, {})
    runtime = load(folder)
    expected = runtime.generate([{"document": "…"} if model == "t5" else "…"], max_new_tokens=128)[0].text
    assert said.getvalue().strip() == (expected if model == "t5" else str([expected]))


# what can't be done


def refused(source: Path, folder: Path, **options: Any) -> str:
    with pytest.raises((UsageError, ModelError)) as caught:
        export_graph(source, folder, **options)
    assert not list(folder.glob("*.onnx"))
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 3}, ["--dim_param width", "batch_size, sequence_length"]),
        ({"sequence_length": 5000}, ["5000", "256 positions"]),
        ({"static": True}, ["fixed shapes", "--dim_param batch_size,sequence_length"]),
        ({"static": True, "batch_size": 1}, ["no size is given for sequence_length"]),
    ],
)
def test_shapes_that_cant_be_are_refused(bert: tuple[Path, Path], tmp_path: Path, options: dict[str, Any], words: list[str]) -> None:
    said = refused(bert[0], tmp_path, **options)
    assert all(word in said for word in words), said


def test_an_encoder_decoder_has_no_fixed_shapes(t5: tuple[Path, Path], tmp_path: Path) -> None:
    assert "grows with every token" in refused(t5[0], tmp_path, batch_size=1)


def test_a_head_on_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    said = refused(save_headed("bart", "text-classification", tmp_path / "model"), tmp_path / "out")
    assert "a head on an encoder-decoder (Bart" in said


def test_a_model_that_cant_be_followed_is_named(bert: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Branching(nn.Module):
        outputs = ("logits",)

        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> torch.Tensor:
            return input_ids.float() if input_ids.sum() > 3 else attention_mask.float()

    monkeypatch.setattr(graph, "ScoringGraph", Branching)
    assert "torch.onnx can't export BertForSequenceClassification" in refused(bert[0], tmp_path)


def test_a_missing_package_is_named(bert: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for missing, ask in (("onnxscript", lambda: export_graph(bert[0], tmp_path)), ("onnxruntime", lambda: load(bert[1]))):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, missing=missing: None if name == missing else True)
        with pytest.raises(DependencyError, match=rf"{missing}.*pip install 'tunesmith\[cpu\]'"):
            ask()
        monkeypatch.undo()


def broken(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "broken")


def test_a_broken_folder_is_named(bert: tuple[Path, Path], t5: tuple[Path, Path], tmp_path: Path) -> None:
    folder = broken(bert[1], tmp_path)
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"model.onnx can't be run by onnxruntime"):
        load(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match=r"has no model.onnx"):
        load(folder)
    (folder / "model.onnx").write_bytes(content)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"which can be run but not trained"):
        load(folder)
    shutil.rmtree(folder)
    folder = broken(t5[1], tmp_path)
    (folder / "decoder_model.onnx").unlink()
    with pytest.raises(ModelError, match=r"has no decoder_model.onnx"):
        load(folder)


def test_labels_that_arent_the_graphs_are_named(bert: tuple[Path, Path], tmp_path: Path) -> None:
    folder = broken(bert[1], tmp_path)
    task = json.loads((folder / "task.json").read_text())
    (folder / "task.json").write_text(json.dumps({**task, "labels": list(LABELS[:2])}))
    with pytest.raises(UsageError, match=r"4 outputs, but its task\.json names 2 labels"):
        load(folder).generate(["x"])
    (folder / "task.json").write_text(json.dumps({**task, "name": "token-sorting"}))
    with pytest.raises(ModelError, match="token-sorting"):
        load(folder)


def test_a_folder_that_lost_a_part_is_named_and_answers_nothing(bert: tuple[Path, Path], tmp_path: Path) -> None:
    lost = {
        ("tokenizer.json", "tokenizer_config.json"): r"has no tokenizer: neither .*tokenizer\.json",
        ("tokenizer.json",): "tokenizer",
        ("task.json",): r"has no task\.json, which says what its graph is for",
    }
    for number, (names, words) in enumerate(lost.items()):
        folder = shutil.copytree(bert[1], tmp_path / str(number))
        for name in names:
            (folder / name).unlink()
        with pytest.raises(ModelError, match=words):
            load(folder)
    folder = broken(bert[1], tmp_path)
    (folder / "config.json").write_text('{"model_type": "nonsense"}')
    with pytest.raises(ModelError, match=r"config\.json can't be used.*nonsense|can't be loaded.*nonsense"):
        load(folder)


def test_a_graph_of_something_else_is_named(bert: tuple[Path, Path], tmp_path: Path) -> None:
    folder = broken(bert[1], tmp_path)
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    made = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "other", value[:1], value[1:])
    onnx.save(onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), folder / "model.onnx")
    with pytest.raises(ModelError, match=r"has no input input_ids; it has: x"):
        load(folder)
