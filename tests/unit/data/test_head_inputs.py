"""What a head reads: ids as the tokenizer makes them, pairs, and the first sub-word of every word."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tiny_encoders import segment_tokenizer
from tiny_models import tiny_tokenizer
from tunesmith.data.head_inputs import encode_for_head, encode_pairs, encode_words, join_words, split_words, types_pairs


def bert_like() -> PreTrainedTokenizerFast:
    vocab = {name: number for number, name in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "new", "york", "##er", "is", "big"])}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=64
    )


def test_texts_get_what_the_model_is_used_to() -> None:
    assert encode_for_head([("new york",), ("big",)], bert_like()) == [[2, 4, 5, 3], [2, 8, 3]]
    plain = tiny_tokenizer()
    assert encode_for_head([("new york",)], plain) == [plain("new york").input_ids]
    assert encode_for_head([], plain) == []


def test_cutting_keeps_the_special_tokens() -> None:
    assert encode_for_head([("new york is big",)], bert_like(), max_seq_len=4) == [[2, 4, 5, 3]]
    assert encode_for_head([("new york is big", "new")], bert_like(), max_seq_len=5) == [[2, 4, 3, 4, 3]]


def test_pairs_are_told_apart() -> None:
    assert encode_for_head([("new", "york")], bert_like()) == [[2, 4, 3, 5, 3]]
    for plain in (tiny_tokenizer(), tiny_tokenizer(adds_bos=True)):
        (ids,) = encode_for_head([("new", "york")], plain)
        assert plain.decode(ids, skip_special_tokens=True) in ("new\nyork", "newyork")
        assert ids != encode_for_head([("newyork",)], plain)[0]


def test_tokens_of_the_second_text_have_another_type() -> None:
    assert types_pairs(segment_tokenizer())
    pairs = [("new", "york"), ("new york", "big")]
    ids, types = encode_pairs(pairs, bert_like())
    assert ids == encode_for_head(pairs, bert_like())
    assert types == [[0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1]]
    assert encode_pairs([("new york is big", "new")], bert_like(), max_seq_len=5) == ([[2, 4, 3, 4, 3]], [[0, 0, 0, 1, 1]])
    assert encode_pairs([], bert_like()) == ([], [])
    assert not types_pairs(tiny_tokenizer()), "a tokenizer that puts nothing between two texts"
    assert not types_pairs(bert_like()), "as RoBERTa's does, it says that its models take none"


def test_the_last_sub_word_of_each_word() -> None:
    text, words = join_words(["new", "yorker", "", "is"])
    ((ids, last),) = encode_words([text], [words], bert_like(), sub_word="last")
    assert ids == [2, 4, 5, 6, 7, 3]
    assert last == [1, 3, None, 4]
    ((_, last),) = encode_words([text], [words], bert_like(), sub_word="last", max_seq_len=4)
    assert last == [1, 2, None, None]


@pytest.mark.parametrize("text", ["Label: happy. Label: sad", "user asks a question", "ab  cd\n ef", "a–b, c", "日本 🙂!"])
def test_the_last_byte_level_token_ends_its_word(text: str) -> None:
    tokenizer = tiny_tokenizer()
    words = split_words(text)
    ((ids, last),) = encode_words([text], [words], tokenizer, sub_word="last")
    start = 0
    for word, position in zip(words, last, strict=True):
        assert position is not None
        assert tokenizer.decode(ids[start : position + 1]).strip() == text[word[0] : word[1]]
        start = position + 1


def test_a_token_that_two_words_share_is_the_earlier_ones() -> None:
    tokenizer = bert_like()
    for sub_word, expected in (("first", [1, None]), ("last", [1, None])):
        ((_, found),) = encode_words(["new"], [[(0, 2), (2, 3)]], tokenizer, sub_word=sub_word)  # type: ignore[arg-type]
        assert found == expected


def test_the_first_sub_word_of_each_word() -> None:
    text, words = join_words(["new", "yorker", "", "is"])
    assert text == "new yorker  is"
    ((ids, first),) = encode_words([text], [words], bert_like())
    assert ids == [2, 4, 5, 6, 7, 3]
    assert first == [1, 2, None, 4]


@pytest.mark.parametrize("text", ["Label: happy. Label: sad", "user asks a question", "ab  cd\n ef", "a–b, c"])
def test_byte_level_tokens_belong_to_their_words(text: str) -> None:
    tokenizer = tiny_tokenizer()
    words = split_words(text)
    ((ids, first),) = encode_words([text], [words], tokenizer)
    ends = [*[position for position in first[1:] if position is not None], len(ids)]
    for (start, end), position, until in zip(words, first, ends, strict=True):
        assert position is not None
        assert tokenizer.decode(ids[position:until]).strip() == text[start:end]


def test_words_behind_the_cut_have_no_place() -> None:
    text, words = join_words(["new", "york", "is", "big"])
    ((ids, first),) = encode_words([text], [words], bert_like(), max_seq_len=4)
    assert len(ids) == 4
    assert first == [1, 2, None, None]


def test_words_of_a_text() -> None:
    assert [("It's 5%!")[start:end] for start, end in split_words("It's 5%!")] == ["It", "'", "s", "5", "%", "!"]
