"""Every method with every head, on a decoder and on an encoder: it learns, reloading gives the same outputs, merging too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from short_task import base_folder, batch_of, load_for, make_task, outputs, train

from tunesmith.errors import ModelError
from tunesmith.methods import build_method
from tunesmith.methods.adapters import load_adapter
from tunesmith.methods.heads import train_head
from tunesmith.models.heads import head_modules
from tunesmith.models.load import load_model
from tunesmith.models.sources import resolve_model

TASKS = ("text-classification", "token-classification", "similarity")
CASES = [
    (task, family, method)
    for task in TASKS
    for family, methods in (("llama", ("lora", "dora", "adapter", "full", "qlora")), ("bert", ("lora", "full")))
    for method in methods
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bases")


@pytest.mark.parametrize(("name", "family", "method_name"), CASES)
def test_reloading_gives_the_same_outputs(name: str, family: str, method_name: str, folder: Path, tmp_path: Path) -> None:
    task, source = make_task(name), resolve_model(base_folder(family, folder))
    options = {"adapter_reduction_factor": 4} if method_name == "adapter" else {"quant_type": "onnx-int4"} if method_name == "qlora" else {}
    method = build_method(method_name, **options)
    torch.manual_seed(0)
    base = method.load_base(source, dtype="float32", device="cpu", trust_remote_code=False, task=task.head)
    method = train_head(method, base)
    batch = batch_of(task)
    before = outputs(base, task, batch)
    model = method.apply(base)
    losses = train(model, method, task, batch, rate=2e-4 if name == "similarity" else 2e-3)
    assert losses[-1] < losses[0]
    after = outputs(model, task, batch)
    assert (after - before).abs().max() > 1e-4
    method.save(model, tmp_path)
    torch.manual_seed(1)  # another random head, to be replaced by the saved one
    if method.saves_adapter:
        fresh = method.load_base(source, dtype="float32", device="cpu", trust_remote_code=False, task=task.head)
        again = load_adapter(fresh, tmp_path)
    else:
        again = load_model(resolve_model(tmp_path), dtype="float32", device="cpu", task=name)
    torch.testing.assert_close(outputs(again, task, batch), after, rtol=1e-5, atol=1e-5)
    if method_name in ("lora", "dora"):
        torch.testing.assert_close(outputs(method.merge(again), task, batch), after, rtol=1e-4, atol=1e-4)


def test_a_bottleneck_needs_blocks_that_it_knows(folder: Path) -> None:
    task = make_task("text-classification")
    model = load_for(task, base_folder("bert", folder))
    with pytest.raises(ModelError, match="no feed-forward is found in BertLayer"):
        build_method("adapter").apply(model)


@pytest.mark.parametrize(
    ("family", "name", "modules"),
    [
        ("llama", "text-classification", ["score"]),
        ("llama", "similarity", []),
        ("gpt2", "token-classification", ["classifier"]),
        ("bert", "text-classification", ["bert.pooler.dense", "classifier"]),
        ("roberta", "text-classification", ["classifier.dense", "classifier.out_proj"]),
    ],
)
def test_the_head_is_what_lies_above_the_body(family: str, name: str, modules: list[str], folder: Path) -> None:
    task = make_task(name)
    model = load_for(task, base_folder(family, folder))
    assert head_modules(model) == modules
    if name != "similarity":
        assert model.config.id2label == dict(enumerate(task.record.labels))


def test_a_bottleneck_with_a_head_says_when_the_head_is_not_there(folder: Path, tmp_path: Path) -> None:
    task, path = make_task("text-classification"), base_folder("llama", folder)
    model = load_for(task, path)
    method = train_head(build_method("adapter"), model)
    method.save(method.apply(model), tmp_path)
    with pytest.raises(ModelError, match="brings the modules score, which this LlamaForCausalLM doesn't have"):
        load_adapter(load_model(resolve_model(path), dtype="float32"), tmp_path)
