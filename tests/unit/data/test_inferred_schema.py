"""The schema of training rows' answers: all fit; what they say too little about stays open; fixed sets are closed, and only these."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from jsonschema import ValidationError, validate

from tunesmith.data.answer_grammar import keep_to, schema_grammar
from tunesmith.data.inferred_schema import fixed_sets, infer_schema

ANSWERS = [
    {"name": "a", "size": 1, "tags": ["x"], "more": None},
    {"name": "b", "size": 2.5, "tags": []},
    {"name": "c", "size": 3, "tags": ["y", "z"], "more": {"deep": True}},
]


def schema_of(answers: Sequence[Any], prompts: Sequence[str] | None = None) -> dict[str, Any]:
    return infer_schema(map(json.dumps, answers), prompts)


def test_all_answers_fit_and_others_do_not() -> None:
    schema = schema_of(ANSWERS)
    for answer in ANSWERS:
        validate(answer, schema)
    for wrong in ({"name": "a"}, {**ANSWERS[0], "other": 1}, {**ANSWERS[0], "size": "1"}, {**ANSWERS[0], "tags": [1]}, [], "a"):
        with pytest.raises(ValidationError):
            validate(wrong, schema)


def test_whole_numbers_and_nulls_are_no_rule_until_there_are_enough() -> None:
    few, many = schema_of([{"number": 2, "note": None}] * 99), schema_of([{"number": 2, "note": None}] * 100)
    validate({"number": 2.5, "note": "a"}, few)
    assert many["properties"] == {"number": {"type": "integer"}, "note": {}}
    validate([], schema_of([[]]))
    validate(["anything"], schema_of([[]]))


def test_fields_come_in_the_order_that_all_rows_agree_on() -> None:
    """A grammar takes fields in this order alone: ``b`` was seen last, and stands between ``a`` and ``c`` in its row."""
    assert list(schema_of([{"a": 1, "c": 1}, {"c": 1, "d": 1}, {"a": 1, "b": 1, "c": 1}])["properties"]) == ["a", "b", "c", "d"]
    assert list(schema_of([{"b": 1, "a": 1}, {"a": 1, "b": 1}])["properties"]) == ["b", "a"], "all have both: as first seen"


def test_fields_whose_order_rows_disagree_on_may_come_in_any() -> None:
    """A fixed order would shut ``a`` out behind ``b.c``; all answers can be written as the rows write them."""
    answers = [{"id": 1, "a": "x", "b.c": "x"}, {"id": 1, "b.c": "y", "a": "x"}, {"id": 2}, {"id": 3, 'd "\\(e)': "ü"}]
    schema = schema_of(answers)
    assert list(schema["properties"]) == schema["required"] == ["id"]
    texts = [json.dumps(answer, ensure_ascii=False) for answer in answers]
    assert keep_to(schema_grammar(schema), texts) == [True] * 4
    for answer in answers:
        validate(answer, schema)
    for wrong in ({"id": 1, "bxc": "x"}, {"id": 1, "a": 1}, {"a": "x"}):
        with pytest.raises(ValidationError):
            validate(wrong, schema)
    assert keep_to(schema_grammar(schema), ['{"id": 1, "bxc": "x"}', '{"id": 1, "a": 1}', '{"a": "x"}']) == [False] * 3


@pytest.mark.parametrize("seed", range(20))
def test_every_training_answer_can_be_written_as_it_is(seed: int) -> None:
    """Whatever the rows hold, as long as they put their fields in one order."""
    draw = random.Random(seed)

    def value(depth: int) -> Any:
        kind = draw.choice(["text", "number", "truth", "none", *(["list", "object"] if depth else [])])
        if kind == "list":
            return [value(depth - 1) for _ in range(draw.randrange(3))]
        if kind == "object":
            return {name: value(depth - 1) for name in sorted(draw.sample(["a", "b c", "ü", "x.y", 'q"'], draw.randrange(4)))}
        return {"text": draw.choice(["", "x", 'with "quotes"\n', "größer"]), "number": draw.choice([1, -2.5, 1e30]), "truth": True}.get(
            kind
        )

    answers = [json.dumps(value(3), ensure_ascii=False) for _ in range(120)]
    schema = infer_schema(answers, ["what?"] * 120)
    assert keep_to(schema_grammar(schema), answers) == [True] * 120
    for answer in answers:
        validate(json.loads(answer), schema)


def fields(values: Sequence[str | None], prompts: Sequence[str] | None = None) -> dict[str, Any]:
    found = schema_of([{"field": value} for value in values], prompts or ["what is it?"] * len(values))
    return dict(found["properties"]["field"])


COLOURS = [f"colour {number}" for number in range(10)]


@pytest.mark.parametrize(
    ("values", "is_closed"),
    [
        (COLOURS * 10, True),
        (COLOURS * 9 + COLOURS[:9], False),  # 99 values
        ([*COLOURS * 30, *["rare"] * 3], True),
        ([*COLOURS * 30, *["rare"] * 2], False),  # where one was seen twice, another may not have been seen at all
        ([*COLOURS * 30, "once"], False),
        ([f"word {number}" for number in range(100)] * 10, True),
        ([f"word {number}" for number in range(101)] * 10, False),  # too many
        ([f"word {number}" for number in range(20)] * 9, False),  # nine of each
    ],
)
def test_a_fixed_set_needs_evidence(values: list[str], is_closed: bool) -> None:
    assert ("enum" in fields(values)) is is_closed


def test_a_closed_field_may_be_null_where_it_was() -> None:
    found = fields([*COLOURS * 20, None])
    assert found == {"type": ["null", "string"], "enum": [*COLOURS, None]}
    for value in (None, "colour 3"):
        validate(value, found)
    with pytest.raises(ValidationError):
        validate("colour 11", found)


def test_what_is_copied_out_of_the_prompt_is_free() -> None:
    """Rows that were made from a few patterns name few things, and users will name others."""
    draw = random.Random(0)
    drinks = [draw.choice(["tea", "coffee", "cocoa"]) for _ in range(300)]
    asked = [f"One {drink.upper()}, please" if number % 4 == 0 else "the usual" for number, drink in enumerate(drinks)]
    assert "enum" not in fields(drinks, asked)
    assert "enum" in fields(drinks, [text.replace("COCOA", "drink") if number % 8 else "as before" for number, text in enumerate(asked)])
    assert "enum" in fields(["no", "yes"] * 60, ["Do you know anything about yesterday?"] * 120), "part of a word is no copy"
    assert "enum" not in fields(["", "x"] * 60), "an empty text says nothing"


def test_without_prompts_nothing_is_closed() -> None:
    assert schema_of(["a", "b"] * 100) == {"type": "string"}
    assert schema_of(["a", "b"] * 100, ["?"] * 200)["enum"] == ["a", "b"]


def test_names_of_slots_become_a_fixed_set_and_their_values_do_not() -> None:
    draw = random.Random(1)
    answers = [[{"slot": draw.choice(["city", "time"]), "value": f"v{draw.random()}"} for _ in range(number % 3)] for number in range(200)]
    schema = schema_of(answers, ["what?"] * 200)
    assert schema["items"]["properties"] == {"slot": {"type": "string", "enum": ["city", "time"]}, "value": {"type": "string"}}
    assert list(fixed_sets(schema)) == [("slot", 2)]
    moods = [{"mood": draw.choice(COLOURS), "x": 1} if number % 2 else {"x": 1, "mood": COLOURS[0]} for number in range(400)]
    assert list(fixed_sets(schema_of([*moods, {"x": 1}, {"mood": COLOURS[1]}], ["what?"] * 402))) == [("mood", 10)]
