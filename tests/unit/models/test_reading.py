"""How a model reads, told by its configuration alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny_encoders import save_tiny_encoder
from tiny_models import save_tiny
from tunesmith.models.reading import Reading, reading_of, takes_token_types
from tunesmith.models.sources import resolve_model
from tunesmith.models.structure import is_causal

EXPECTED = {
    "llama": Reading(causal=True, token_types=False),
    "gpt2": Reading(causal=True, token_types=False),
    "bert": Reading(causal=False, token_types=True),
    "roberta": Reading(causal=False, token_types=True),  # as its class has it; those on the hub have one type
}


@pytest.mark.parametrize("family", sorted(EXPECTED))
def test_what_the_configuration_says(family: str, tmp_path: Path) -> None:
    folder = (save_tiny_encoder if family in ("bert", "roberta") else save_tiny)(family, tmp_path / family)
    source = resolve_model(folder)
    (folder / "model.safetensors").unlink()
    assert reading_of(source) == EXPECTED[family], "no weights are needed"


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_the_loaded_model_says_the_same(family: str, tmp_path: Path) -> None:
    from tunesmith.models.heads import Head
    from tunesmith.models.load import load_model

    source = resolve_model((save_tiny_encoder if family == "bert" else save_tiny)(family, tmp_path / family))
    model = load_model(source, dtype="float32", device="cpu", task=Head("text-classification", ("a", "b"), pad_token_id=0))
    assert reading_of(source) == Reading(is_causal(model), takes_token_types(model))


def test_a_model_of_unknown_make_is_taken_for_a_decoder(tmp_path: Path) -> None:
    folder = save_tiny("llama", tmp_path / "model")
    (folder / "config.json").write_text(json.dumps({"model_type": "of-tomorrow"}))
    assert reading_of(resolve_model(folder)) == Reading()
