"""The methods on the real sample model, its base in bfloat16 as it is trained: what is saved answers as what was trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import peft
import pytest
import torch
from short_training import distance, logits, train, weights_hash
from transformers import AutoTokenizer, PreTrainedModel

from tunesmith.methods import build_method
from tunesmith.methods.adapters import load_adapter, remove_adapter
from tunesmith.models.load import load_model
from tunesmith.models.sources import resolve_model

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def base_model(folder: Path) -> PreTrainedModel:
    return load_model(resolve_model(str(folder)), dtype="bfloat16", device="cpu").eval()


@pytest.fixture(scope="module")
def prompt(sample_model: Path) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(sample_model)
    ids: torch.Tensor = tokenizer("The capital of France is Paris. The capital of Italy is", return_tensors="pt").input_ids
    return ids


@pytest.mark.parametrize(
    "options", [{"name": "lora"}, {"name": "dora", "lora_r": 4}, {"name": "lora", "modules_to_save": "lm_head"}], ids=str
)
def test_lora_family(options: dict[str, object], sample_model: Path, prompt: torch.Tensor, tmp_path: Path) -> None:
    method = build_method(**options)  # type: ignore[arg-type]
    model = train(method.apply(base_model(sample_model)), method, num_steps=2, learning_rate=1e-3)
    expected = logits(model, prompt)
    method.save(model, tmp_path)
    assert distance(logits(load_adapter(base_model(sample_model), tmp_path), prompt), expected) == 0
    plain = peft.PeftModel.from_pretrained(base_model(sample_model), str(tmp_path))
    assert torch.equal(logits(plain, prompt).argmax(-1), expected.argmax(-1))
    exact = logits(method.merge(model), prompt)
    assert exact.dtype == torch.float32
    assert distance(exact, expected) < 0.05 * expected.abs().max()  # bfloat16 keeps 8 bits, through 30 blocks


def test_bottleneck(sample_model: Path, prompt: torch.Tensor, tmp_path: Path) -> None:
    base = base_model(sample_model)
    before, expected_base = weights_hash(base), logits(base, prompt)
    method = build_method("adapter")
    model = train(method.apply(base), method, num_steps=2, learning_rate=1e-3)
    expected = logits(model, prompt)
    assert distance(expected, expected_base) > 0.1
    method.save(model, tmp_path)
    assert distance(logits(load_adapter(base_model(sample_model), tmp_path), prompt), expected) == 0
    plain = remove_adapter(model)
    assert weights_hash(plain) == before
    assert distance(logits(plain, prompt), expected_base) == 0
