"""What an answer may be, as a grammar: exactly the texts that were meant, and one line for a schema that is too much to ask."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer

from tiny_models import tiny_tokenizer
from tunesmith.data.answer_grammar import grammar_of, label_list_grammar, schema_grammar
from tunesmith.data.task_file import TaskRecord
from tunesmith.errors import UsageError

TOKENIZER = tiny_tokenizer()
TOKENS = from_tokenizer(TOKENIZER)
LABELS = ("red", 'blu"e\\x\n', "grün, x")


def is_whole(grammar: str, text: str) -> bool:
    """Return whether a text is an answer, to which nothing can be added."""
    matcher = LLMatcher(TOKENS, grammar)
    assert not matcher.is_error(), matcher.get_error()
    ids = TOKENIZER(text)["input_ids"]
    return bool(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_stopped())


def test_a_list_of_labels_is_any_of_them_in_their_order() -> None:
    grammar = label_list_grammar(LABELS)
    for count in range(4):
        for some in itertools.combinations(LABELS, count):
            assert is_whole(grammar, json.dumps(some, ensure_ascii=False))
    for wrong in (["grün, x", "red"], ["red", "red"], ["green"], [""]):
        assert not is_whole(grammar, json.dumps(wrong, ensure_ascii=False))


def test_a_grammar_grows_with_the_number_of_labels_and_not_with_its_square() -> None:
    sizes = [len(label_list_grammar([f"label {number:03}" for number in range(count)])) for count in (100, 200)]
    assert sizes[1] < 2.2 * sizes[0]


@pytest.mark.parametrize(
    "text", ['{"a": "x"}', '{"a":"x"}', ' {"a": "x"}', '\n{"a": "x"}', '{\n    "a": "x"\n}', '{\n\t"a": "x"\n}', '{"a": "\\u00e9\\n"}']
)
def test_json_may_be_written_in_any_usual_way(text: str) -> None:
    assert is_whole(schema_grammar({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}), text)


@pytest.mark.parametrize("text", ['{"a":   "x"}', '{\n\n"a": "x"}', '  {"a": "x"}', '{"a": "x"} ', '{"a": 1}', "{}", '{"a": "x"', "null"])
def test_what_is_ruled_out(text: str) -> None:
    """Blanks have a bound: a weak model writes them for ever."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
    assert not is_whole(schema_grammar(schema), text)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"not": {"type": "string"}}, "the keyword 'not' can't be checked"),
        ({"if": {}, "then": {}}, "the keywords 'if', 'then' can't be checked"),
        ({"type": "array", "items": {"type": "array", "uniqueItems": True}}, "the keyword 'uniqueItems'"),
        ({"type": "string", "format": "colour"}, "Unknown format: colour"),
        ({"type": "string", "pattern": "(?=a)b"}, r"the keyword 'pattern' has '\(\?=a\)b': look-around"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf constraints are not supported"),
        ({"type": "text"}, "Invalid type: text"),
        ({"type": "string", "enum": []}, "Unsatisfiable schema"),
        ({"$ref": "https://example.org/schema.json"}, "is not present in a registry"),
        ({"properties": {1, 2}}, "is no JSON schema"),
    ],
)
def test_a_schema_that_is_too_much_to_ask_is_named_in_one_line(schema: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        schema_grammar(schema, name="--answer_schema s.json")
    assert "--answer_schema s.json" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "x-guidance" not in str(caught.value)


def test_the_grammar_of_a_task() -> None:
    schema = {"type": "integer"}
    assert grammar_of(TaskRecord("extraction", schema=schema)) == schema_grammar(schema)
    several = TaskRecord("text-classification", labels=LABELS, multi_label=True)
    assert grammar_of(several) == label_list_grammar(LABELS)
    for free in (TaskRecord(), TaskRecord("text-classification", labels=LABELS), TaskRecord("text-classification", True, LABELS, True)):
        assert grammar_of(free) is None
    with pytest.raises(UsageError, match=r"the schema in task\.json: the keyword 'not'.*--no-constrain"):
        grammar_of(TaskRecord("extraction", schema={"not": {}}))
