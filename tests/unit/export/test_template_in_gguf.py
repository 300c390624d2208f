"""The chat template inside a GGUF file is the one of training, whatever stands beside the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny_models import CHAT_TEMPLATE, EOS, START, tiny_model, tiny_tokenizer
from tunesmith.data.templates import Template
from tunesmith.export.gguf_file import write_gguf
from tunesmith.export.stop_files import chat_template_in, gguf_in
from tunesmith.export.token_check import TokenCheck, stops_of

pytest.importorskip("gguf", reason="needs gguf (extra 'gguf')")

TEXT = Template(kind="text", text="Label this: {text}\nLabel: {label}", stop_tokens=(EOS,), answer_column="label")
CHAT = Template(kind="chat", chat_template=CHAT_TEMPLATE, stop_tokens=(EOS,))


def written(template: Template | None, folder: Path, chat_template: str | None = CHAT_TEMPLATE) -> Path:
    file = folder / "model.gguf"
    write_gguf(tiny_model("llama"), tiny_tokenizer(chat_template=chat_template), template, file, quant="f16")
    return file


def wrong(template: Template, files: Path) -> list[str]:
    """What the check of a model that was trained with ``template`` says of files; its check prompts are not asked for here."""
    tokenizer = tiny_tokenizer()
    return TokenCheck(template, False, (), (), stops_of(template, tokenizer), tokenizer).compare_files(files)


@pytest.mark.parametrize("template", [TEXT, CHAT], ids=["text", "chat"])
def test_what_was_written_is_right(template: Template, tmp_path: Path) -> None:
    assert wrong(template, written(template, tmp_path)) == []
    (tmp_path / "adapter.gguf").write_bytes(b"is not looked at")
    assert gguf_in(tmp_path) == tmp_path / "model.gguf"
    assert wrong(template, tmp_path) == []


def test_another_template_in_the_file_is_named(tmp_path: Path) -> None:
    other = Template(kind="chat", chat_template=CHAT_TEMPLATE.replace(START, "<|im_begin|>"), stop_tokens=(EOS,))
    assert other.chat_template != CHAT_TEMPLATE
    (found,) = wrong(CHAT, written(other, tmp_path))
    assert found.startswith("the chat template in the metadata of model.gguf is not that of training: it writes ")
    (found,) = wrong(TEXT, written(CHAT, tmp_path))
    assert "where training wrote " in found
    assert "Label:" in found


def test_a_missing_and_a_broken_one_are_named(tmp_path: Path) -> None:
    file = written(None, tmp_path, chat_template=None)
    assert chat_template_in(file) is None
    assert wrong(CHAT, file) == ["the chat template in the metadata of model.gguf is missing"]
    broken = Template(kind="chat", chat_template="{{ raise_exception('no') }}", stop_tokens=(EOS,))
    (found,) = wrong(CHAT, written(broken, tmp_path))
    assert found.startswith("the chat template in the metadata of model.gguf is not that of training: ")


def test_spelled_otherwise_it_may_write_the_same(tmp_path: Path) -> None:
    same = Template(kind="chat", chat_template="{# the same #}" + CHAT_TEMPLATE, stop_tokens=(EOS,))
    assert wrong(CHAT, written(same, tmp_path)) == []
