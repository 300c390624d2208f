"""Where answers end, and how they are streamed without half characters or half stop texts."""

from __future__ import annotations

import random

import pytest

from tiny_models import tiny_tokenizer
from tunesmith.data.templates import Template
from tunesmith.runtime.stopping import StopRule, TextStream, decode

TOKENIZER = tiny_tokenizer()


def rule(*stops: str) -> StopRule:
    return StopRule.of(Template(kind="text", text="{text}", stop_tokens=stops), TOKENIZER)


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False).input_ids)


def answer(stop_rule: StopRule, tokens: list[int]) -> list[int]:
    """What a runtime generates when the model would say ``tokens``."""
    return next((tokens[:count] for count in range(1, len(tokens) + 1) if stop_rule.met_by(tokens[:count], TOKENIZER)), tokens)


def streamed(stop_rule: StopRule, tokens: list[int]) -> list[str]:
    stream = TextStream(stop_rule, TOKENIZER)
    return [*[stream.push(token) for token in tokens], stream.finish()]


@pytest.mark.parametrize("stop", ["<|im_end|>", "<|endoftext|>", "<|im_start|>"])
def test_any_of_several_stop_tokens_ends_an_answer_and_is_stripped(stop: str) -> None:
    stop_rule = rule("<|im_start|>", "<|endoftext|>")  # <|im_end|> is the tokenizer's end-of-text token
    tokens = answer(stop_rule, ids(f"happy{stop}sad"))
    assert tokens == ids(f"happy{stop}")
    assert stop_rule.text_of(tokens, TOKENIZER) == "happy"


def test_a_stop_token_that_is_added_but_not_special_is_stripped_too() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<end>"])
    stop_rule = StopRule.of(Template(kind="text", text="{text}", stop_tokens=("<end>",)), tokenizer)
    tokens = tokenizer("happy<end>", add_special_tokens=False).input_ids
    assert stop_rule.met_by(tokens, tokenizer)
    assert stop_rule.text_of(tokens, tokenizer) == "happy"


def test_other_special_tokens_end_nothing() -> None:
    assert answer(rule(), ids("happy<|im_start|>sad")) == ids("happy<|im_start|>sad")


@pytest.mark.parametrize("stop", ["\n###", "\n", "END", "🐶|"])
@pytest.mark.parametrize("said", ["happy", "", " two\u00a0words. ", "naïve 🐶", "# ## ###"])
def test_a_stop_that_is_text_ends_an_answer_wherever_the_tokens_break(stop: str, said: str) -> None:
    stop_rule = rule(stop)
    tokens = answer(stop_rule, ids(f"{said}{stop} and more"))
    assert len(tokens) < len(ids(f"{said}{stop} and more"))
    assert stop_rule.text_of(tokens, TOKENIZER) == said.removeprefix(" ")


@pytest.mark.parametrize("text", ["# ## \n## no stop", "a\n\n##b", "\n##"])
def test_the_beginning_of_a_stop_text_is_no_stop(text: str) -> None:
    stop_rule = rule("\n###")
    assert answer(stop_rule, ids(text)) == ids(text)
    assert "".join(streamed(stop_rule, ids(text))) == text


@pytest.mark.parametrize("text", ["🐶🐶 and 你好, naïve café", "é", " leading blank", "word " * 20, "tab\tand\nlines\n\n"])
@pytest.mark.parametrize("stop", ["\n###", "<|im_end|>"])
def test_streamed_pieces_join_to_the_whole_text(text: str, stop: str) -> None:
    stop_rule = rule(stop)
    tokens = answer(stop_rule, ids(text + stop))
    pieces = streamed(stop_rule, tokens)
    assert "".join(pieces) == stop_rule.text_of(tokens, TOKENIZER) == text.removeprefix(" ")
    assert not any("\ufffd" in piece for piece in pieces)


def test_text_comes_as_early_as_it_is_certain() -> None:
    pieces = streamed(rule("\n###"), ids("The train leaves\n## later"))
    assert pieces[0]
    assert "".join(pieces[:-2]).startswith("The train leaves")


def test_bytes_that_are_no_character_come_out_at_the_end() -> None:
    tokens = ids("a🐶")[:-1]
    assert "".join(streamed(rule(), tokens)) == rule().text_of(tokens, TOKENIZER) == decode(tokens, TOKENIZER)


def test_random_tokens_stream_to_the_same_text_as_decoded_at_once() -> None:
    source = random.Random(0)
    for _ in range(50):
        tokens = [source.randrange(4, len(TOKENIZER)) for _ in range(30)]
        stop_rule = rule("ab", "\n")
        said = answer(stop_rule, tokens)
        assert "".join(streamed(stop_rule, said)) == stop_rule.text_of(said, TOKENIZER)
