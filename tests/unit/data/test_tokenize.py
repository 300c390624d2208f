"""Segments to ids: the border rule, several turns, and long conversations in time that grows with their length."""

from __future__ import annotations

import pytest
from tokenizers_at_hand import TOKENIZERS, sentencepiece_like

from tiny_models import tiny_tokenizer
from tunesmith.data.tokenize import Segment, encode_examples, encode_texts, merge_segments


def segments(*texts: str) -> list[Segment]:
    """Prompt, answer, prompt, answer …"""
    return [Segment(text, index % 2 == 1) for index, text in enumerate(texts)]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_are_those_of_the_whole_text_where_no_token_straddles(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    parts = segments("<|im_start|>the cat<|im_end|>", "sat<|im_end|>", "\none two<|im_end|>", "three<|im_end|>")
    ((ids, labels),) = encode_examples([parts], tokenizer)
    assert ids == encode_texts(["".join(part.text for part in parts)], tokenizer)[0]
    assert tokenizer.decode([label for label in labels if label != -100]).replace(" ", "") == "sat<|im_end|>three<|im_end|>"


def test_a_token_over_the_border_is_split_there() -> None:
    tokenizer = tiny_tokenizer()
    assert len(tokenizer("he").input_ids) == 1
    ((ids, labels),) = encode_examples([segments("h", "e")], tokenizer)
    assert ids == tokenizer("h").input_ids + tokenizer("e").input_ids
    assert labels == [-100, *tokenizer("e").input_ids]


def test_the_first_position_is_never_learnt() -> None:
    ((ids, labels),) = encode_examples([[Segment("the cat", True)]], tiny_tokenizer())
    assert labels == [-100, *ids[1:]]


def test_a_second_turn_is_not_taken_for_the_start_of_a_text() -> None:
    tokenizer = sentencepiece_like("first")
    parts = segments("the cat<|im_end|>", "sat<|im_end|>", "one<|im_end|>", "two")
    ((ids, _),) = encode_examples([parts], tokenizer)
    assert ids == tokenizer("the cat<|im_end|>sat<|im_end|>one<|im_end|>two", add_special_tokens=False).input_ids


def test_examples_without_segments_are_empty() -> None:
    assert encode_examples([[], segments("a", "b")], tiny_tokenizer())[0] == ([], [])


def test_the_work_grows_with_the_length_of_a_conversation() -> None:
    class Counting:
        """The tiny tokenizer, counting the characters it is given."""

        backend_tokenizer = None

        def __init__(self) -> None:
            self.inner, self.characters = tiny_tokenizer(), 0

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        def __call__(self, texts: list[str] | str, **options: object) -> object:
            self.characters += sum(map(len, texts))
            return self.inner(texts, **options)

    def work(turns: int) -> int:
        tokenizer = Counting()
        encode_examples([segments(*["question<|im_end|>", "answer<|im_end|>"] * turns)], tokenizer)  # type: ignore[arg-type]
        return tokenizer.characters

    assert work(40) < 2.2 * work(20) < 2.2 * 20 * 2 * len("question<|im_end|>answer<|im_end|>")


def test_neighbours_of_one_kind_are_joined_and_the_unlearnt_end_is_dropped() -> None:
    parts = [Segment("a", False), Segment("", True), Segment("b", False), Segment("c", True), Segment("d", True), Segment("e", False)]
    assert merge_segments(parts) == [Segment("ab", False), Segment("cd", True)]
    assert merge_segments([Segment("a", False)]) == []
