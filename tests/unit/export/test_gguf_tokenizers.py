"""Tokenizers that llama.cpp would read otherwise are refused; what is written of the others."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sentencepiece_tokenizers import sentencepiece_model, sentencepiece_tokenizer
from tiny_models import BOS, EOS, tiny_tokenizer
from tunesmith.errors import ModelError
from tunesmith.export.gguf_sentencepiece import space_prefix
from tunesmith.export.gguf_splitting import splitting_name
from tunesmith.export.gguf_tokenizer import Vocabulary, vocabulary_of


def read(backend: Tokenizer, **names: Any) -> Vocabulary:
    return vocabulary_of(PreTrainedTokenizerFast(tokenizer_object=backend, **names), num_rows=600, stop_ids=[1])


def byte_level(**changes: Any) -> Tokenizer:
    """The tiny byte-level tokenizer with another part."""
    content = json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    return Tokenizer.from_str(json.dumps({**content, **changes}))


SPLIT = {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated", "invert": False}
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BAD_BYTE_LEVEL: dict[str, tuple[dict[str, Any], str]] = {
    "unknown rule": (
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT, {**LEVEL, "use_regex": False}]}},
        "splits text in a way that llama.cpp has no name for; it has: gpt-2, smollm, qwen2",
    ),
    "another behaviour": (
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{**SPLIT, "behavior": "Removed"}, LEVEL]}},
        "splits text in a way",
    ),
    "blank before": ({"pre_tokenizer": {**LEVEL, "add_prefix_space": True}}, "splits text in a way"),
    "no bytes": ({"pre_tokenizer": {"type": "Whitespace"}}, "splits text in a way"),
    "none": ({"pre_tokenizer": None}, "splits text in a way"),
    "lower case": ({"normalizer": {"type": "Lowercase"}}, "normalizes text by Lowercase"),
}


@pytest.mark.parametrize(("changes", "words"), BAD_BYTE_LEVEL.values(), ids=BAD_BYTE_LEVEL)
def test_byte_level_that_llama_cpp_splits_otherwise(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        read(byte_level(**changes))


@pytest.mark.parametrize(
    "model", [models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"), models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0)]
)
def test_other_kinds(model: Any) -> None:
    with pytest.raises(ModelError, match=r"tokenizer is of type (WordPiece|Unigram), and only BPE can be written"):
        read(Tokenizer(model))


def test_written_in_python() -> None:
    class Slow:
        """What transformers' tokenizers in Python have in common: no backend."""

    with pytest.raises(ModelError, match="Slow is written in Python, and only fast tokenizers"):
        vocabulary_of(Slow(), num_rows=4, stop_ids=[])  # type: ignore[arg-type]


def test_composed_letters_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert read(byte_level(normalizer={"type": "NFC"})).splitting == "gpt-2"
    assert "doesn't compose letters and accents" in caplog.text


def test_stripping_tokens_are_said(caplog: pytest.LogCaptureFixture) -> None:
    backend = byte_level()
    backend.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    with caplog.at_level(logging.WARNING):
        assert not read(backend).strips_behind_special
    assert "doesn't strip blanks beside special tokens, as this tokenizer does beside <mask>" in caplog.text


def test_more_stop_tokens_than_the_file_has_room_for(caplog: pytest.LogCaptureFixture) -> None:
    found = vocabulary_of(tiny_tokenizer(), num_rows=384, stop_ids=[3, 2, 1, 0])
    assert [found.special_ids[key] for key in ("eos_token_id", "eot_token_id", "eom_token_id")] == [3, 2, 1]
    assert "has room for three tokens" in caplog.text


def test_scores_are_those_of_sentencepiece() -> None:
    """Up to a shift: SentencePiece numbers its pieces where the list of pairs counts pairs; the order is what merges."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model())
    tokenizer = sentencepiece_tokenizer()
    found = vocabulary_of(tokenizer, num_rows=len(tokenizer), stop_ids=[2])
    assert found.model == "llama"
    assert found.space_prefix is True
    assert found.scores is not None
    merged = [number for number in range(processor.get_piece_size()) if len(processor.id_to_piece(number)) > 1 and found.types[number] == 1]
    by_score = sorted(merged, key=lambda number: -found.scores[number])
    assert by_score == sorted(merged, key=lambda number: -processor.get_score(number))
    assert [found.types[number] for number in (0, 1, 2, 3, len(tokenizer) - 1)] == [2, 3, 3, 6, 3]


def spoilt(spoil: str) -> Tokenizer:
    """The SentencePiece tokenizer with a list of pairs that is no longer one of scores."""
    content = json.loads(sentencepiece_tokenizer().backend_tokenizer.to_str())
    merges = content["model"]["merges"]
    if spoil == "order":
        several = next(n for n in range(1, len(merges)) if "".join(merges[n]) == "".join(merges[n - 1]))
        merges.append(merges.pop(several))
    elif spoil == "missing":
        several = next(n for n in range(1, len(merges)) if "".join(merges[n]) == "".join(merges[n - 1]))
        del merges[several]
    else:
        content["normalizer"]["normalizers"].append({"type": "Lowercase"})
    return Tokenizer.from_str(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "words"), [("order", "don't stand together"), ("missing", "stay apart although"), ("step", "a step Lowercase")]
)
def test_merges_that_no_scores_give(spoil: str, words: str) -> None:
    with pytest.raises(ModelError, match=f"can't be written in SentencePiece's form: .*{words}"):
        read(spoilt(spoil))


def test_where_a_blank_is_put_before_a_text(caplog: pytest.LogCaptureFixture) -> None:
    def parts(scheme: str) -> dict[str, Any]:
        metaspace = json.loads(pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False).__getstate__())
        return {"normalizer": None, "pre_tokenizer": metaspace}

    assert [space_prefix(parts(scheme)) for scheme in ("always", "first", "never")] == [True, True, False]
    assert caplog.text.count("some ids may differ") == 1
    replaced = json.loads(normalizers.Replace(" ", "▁").__getstate__())
    gemma = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    assert space_prefix({"normalizer": replaced, "pre_tokenizer": gemma}) is False
    with pytest.raises(ModelError, match="a step Metaspace"):
        space_prefix({"normalizer": None, "pre_tokenizer": {**parts("always")["pre_tokenizer"], "split": True}})


@pytest.mark.parametrize(("individual", "name"), [(True, "smollm"), (None, "gpt-2")])
def test_digits(individual: bool | None, name: str) -> None:
    digits = [] if individual is None else [{"type": "Digits", "individual_digits": individual}]
    content = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [*digits, LEVEL]}, "model": {}}
    assert splitting_name(content) == name


def test_phi3_strips_blanks_behind_special_tokens() -> None:
    backend = sentencepiece_tokenizer().backend_tokenizer
    backend.add_special_tokens([AddedToken("<|endoftext|>", normalized=False)])
    backend.add_special_tokens([AddedToken(token, rstrip=True, normalized=False) for token in ("</s>", "<|user|>", "<|end|>")])
    content = json.loads(backend.to_str())
    for token in content["added_tokens"]:
        token["rstrip"] = token["content"] in ("</s>", "<|user|>", "<|end|>", "<end_of_turn>")
    assert read(Tokenizer.from_str(json.dumps(content)), bos_token="<s>", eos_token="</s>").strips_behind_special
    assert not read(byte_level(), bos_token=BOS, eos_token=EOS).strips_behind_special
