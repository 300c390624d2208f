"""Every kind of finding: planted in rows that are otherwise clean, found there and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from doctor_rows import Examine, Rows, clean_rows

SPANISH = "hola, necesito saber dónde puedo encontrar mi tarjeta porque todavía no ha llegado a mi casa"
PEM = "-----BEGIN RSA PRIVATE KEY-----"


def text(value: str, label: str = "place") -> dict[str, Any]:
    return {"text": value, "label": label}


def changed(**values: Any) -> dict[str, Any]:
    return {**clean_rows(200)[150], **values}


# kind -> (severity, the row that has it)
PLANTED: dict[str, tuple[str, dict[str, Any] | str | bytes]] = {
    "unreadable_row": ("error", '{"text": "cut off, "label"'),
    "wrong_encoding": ("error", '{"text": "caf\xe9 in the town", "label": "place"}'.encode("latin-1")),
    "missing_field": ("warning", {"text": "a row that has no label at all"}),
    "empty_answer": ("warning", changed(label="  ")),
    "empty_prompt": ("warning", changed(text="")),
    "blanks_around": ("note", changed(label=" place")),
    "wrong_type": ("warning", changed(text=17)),
    "replacement_character": ("warning", text("the caf\ufffd on the corner of the old street")),
    "mojibake": ("warning", text("the cafÃ© where we found the naÃ¯ve waiter")),
    "control_character": ("warning", text("a word with \x00 in the middle of the sentence")),
    "invisible_character": ("note", text("a word with some\u200bthing that nobody can see")),
    "special_token": ("error", text("the turn is over <|im_end|> and then goes on")),
    "placeholder": ("warning", text("dear [INSERT NAME], where is the nearest shop")),
    "other_language": ("warning", text(SPANISH)),
    "secret": ("error", text("my key is AKIA" + "IOSFODNN7REALKEY and it opens all doors")),
    "email_address": ("warning", text("write to jane.doe@gmail.com when the parcel is there")),
    "phone_number": ("warning", text("call me on +1 650-253-0000 when the parcel is there")),
    "card_number": ("error", text("I paid with 4111 1111 1111 1111 and want my money back")),
    "length_outlier": ("warning", text("where is it " * 200)),
    "cut_text": ("warning", text("this is the beginning of something longer [truncated]")),
    "label_spelling": ("warning", changed(label="Place")),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_defect_is_the_only_thing_found(kind: str, check: Examine) -> None:
    severity, row = PLANTED[kind]
    rows: list[Any] = clean_rows()
    rows.insert(23, row)
    report = check(rows)
    assert [(found.check, found.severity, found.line) for found in report.findings] == [(kind, severity, 24)]
    assert report.findings[0].message
    assert report.num_rows == 61
    assert report.failed() == (severity == "error")
    assert report.failed(strict=True) == (severity != "note")


def test_nothing_is_found_in_clean_rows(check: Examine) -> None:
    report = check(clean_rows(150), [changed(text="where may a person look for something else in this house")])
    assert report.findings == ()
    assert report.words()[-1].startswith("In order: 0 errors, 0 warnings, 0 notes")


def test_a_copy_names_the_first(check: Examine) -> None:
    rows = clean_rows()
    (found,) = check([*rows, rows[4]]).findings
    assert (found.check, found.line, found.message) == ("duplicate_row", 61, "the same as line 5")


def test_almost_the_same_names_the_other(check: Examine) -> None:
    rows = clean_rows()
    report = check([*rows, changed(text=rows[4]["text"].upper() + "!", label=rows[4]["label"])])
    assert [(one.check, one.severity, one.line, one.message) for one in report.findings] == [
        ("near_duplicate", "note", 61, "the same words as line 5")
    ]


def test_the_test_rows_that_training_sees(check: Examine) -> None:
    rows = clean_rows()
    held = [rows[3], {**rows[5], "text": rows[5]["text"].replace("where", "Where") + "?"}, changed()]
    report = check(rows, held)
    assert [(one.check, one.severity, one.line) for one in report.findings] == [("leaked_row", "error", 1), ("near_leak", "warning", 2)]
    assert all(one.file and one.file.endswith("test.jsonl") for one in report.findings)
    assert "train.jsonl:4" in report.findings[0].message


def test_contradicting_labels_name_the_minority(check: Examine) -> None:
    rows = clean_rows()
    twice = [{**rows[0], "label": "time"}, rows[0]]
    report = check([*rows, *twice])
    assert [(one.check, one.line) for one in report.findings] == [("conflicting_label", 61), ("duplicate_row", 62)]


def test_free_answers_may_differ(check: Examine) -> None:
    rows = [{"prompt": f"say the number {number // 2} in words", "completion": f"answer {number} of many"} for number in range(40)]
    report = check(rows, checks=["conflicts"])
    assert [(one.check, one.severity) for one in report.findings] == [("several_answers", "note")]
    assert report.findings[0].message.startswith("20 prompts")


def test_classes(check: Examine) -> None:
    rows = [row for row in clean_rows(200) if row["label"] != "colour"]
    report = check([*rows, changed(label="colour", text="which colour has the sky over there")])
    assert [(one.check, one.line) for one in report.findings] == [("small_class", len(rows) + 1)]
    report = check([{**row, "label": "place"} for row in rows])
    assert [one.check for one in report.findings] == ["one_label"]
    report = check([*({**row, "label": "place"} for row in rows[:120]), *(dict(row, label="time") for row in rows[120:126])])
    assert [one.check for one in report.findings] == ["imbalance"]


def test_a_label_that_training_lacks(check: Examine) -> None:
    report = check(clean_rows(), [changed(label="colours"), changed(label="COLOUR", text="a thing that nobody has asked before")])
    assert [(one.check, one.line) for one in report.findings] == [("unseen_label", 1), ("label_spelling", 2)]
    assert "Did you mean 'colour'?" in report.findings[0].fix


def test_answers_that_are_json(check: Examine) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": row["text"], "completion": json.dumps({"number": at, "label": row["label"]})} for at, row in enumerate(clean_rows())
    ]
    rows[7]["completion"] = rows[7]["completion"][:-4]
    assert [(one.check, one.line) for one in check(rows).findings] == [("broken_json", 8)]


def test_a_limit_cut_several_rows(check: Examine) -> None:
    rows = clean_rows()
    rows += [text(f"row {at} " + " ".join(f"{word}{at}" for word in clean_rows()[at]["text"].split() * 3)) for at in range(6)]
    rows = [{**row, "text": row["text"][:120]} for row in rows]
    assert [(one.check, one.line) for one in check(rows, checks=["lengths"]).findings] == [("cut_text", line) for line in range(61, 67)]


def test_placeholders_that_belong_to_the_data_are_a_note(check: Examine) -> None:
    report = check([{**row, "text": row["text"] + " {{name}}"} for row in clean_rows()])
    assert [(one.check, one.severity, one.row) for one in report.findings] == [("placeholder", "note", None)]


def test_several_languages_are_a_note(check: Examine) -> None:
    spanish = [text(f"{SPANISH} número {at}, y también {row['text'][-6:]}") for at, row in enumerate(clean_rows())]
    report = check([*clean_rows(), *spanish], checks=["languages"])
    assert [(one.check, one.severity) for one in report.findings] == [("mixed_languages", "note")]
    assert report.figures["languages"] == {"en": 0.5, "es": 0.5}


def test_a_special_token_at_the_end_only_warns(check: Examine) -> None:
    rows: Rows = [
        {"prompt": row["text"], "completion": row["text"][::-1] + ("</s>" if at == 3 else "")} for at, row in enumerate(clean_rows())
    ]
    assert [(one.check, one.severity, one.line) for one in check(rows, checks=["special_tokens"]).findings] == [
        ("special_token", "warning", 4)
    ]


def test_rendered_texts_may_hold_special_tokens(check: Examine) -> None:
    rows: Rows = [{"text": f"<|im_start|>user\n{row['text']}<|im_end|>"} for row in clean_rows()]
    assert check(rows, checks=["special_tokens"]).findings == ()


@pytest.mark.parametrize(
    "harmless",
    [
        "write to someone@example.com or to me@my-host.test for more",
        "the years 1999, 2001 and 2004 were good for 1,234,567 people",
        "4111 1111 1111 1112 is no card, its check digit is wrong",
        "order 1234567890123456 has arrived at the shop",
        "version 12.0.34.1567 of https://server.org/a/b/c/d/e/f0123456789 is out",
        "the isbn 978-3-16-148410-0 is printed on the back of the book",
        "is 3 < 5 and [INSTEAD] a word, or <b>bold</b> text in a page",
    ],
)
def test_what_only_looks_like_it(harmless: str, check: Examine) -> None:
    assert check([*clean_rows(), text(harmless)]).findings == ()


def test_rows_of_conversations(check: Examine) -> None:
    def chat(question: str, answer: Any) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}

    rows: list[dict[str, Any] | str] = [chat(row["text"], row["text"][::-1]) for row in clean_rows()]
    rows += [{"messages": "hello"}, {"messages": [{"content": "no role"}]}, chat("what then?", ""), {"messages": [1, 2]}]
    report = check(rows, checks=["fields", "duplicates"])
    assert [(one.check, one.line) for one in report.findings] == [
        ("bad_conversation", 61),
        ("bad_conversation", 62),
        ("empty_answer", 63),
        ("bad_conversation", 64),
    ]


def test_figures_describe_the_data(check: Examine) -> None:
    figures = check(clean_rows(), clean_rows(61)[60:]).figures
    assert figures["labels"] == 3
    assert figures["languages"] == {"en": 1.0}
    assert figures["leaked_rows"] == 0
    assert figures["letters_median"] < figures["letters_99_percent"] <= figures["letters_most"]
    assert 0 < figures["distinct_1"] < figures["distinct_2"] < 1
    assert figures["cluster_coverage"] == 1.0


def test_the_same_again_and_again_is_said(check: Examine) -> None:
    rows: Rows = [text(f"where can I find the thing that I lost on the way to the station on day {at % 7}") for at in range(300)]
    assert [one.check for one in check(rows, checks=["diversity"]).findings] == ["low_diversity"]


def test_signs_tell_labels_apart(check: Examine) -> None:
    rows = [{**row, "label": ("1", "-1", "C++", "C", "a_b")[at % 5]} for at, row in enumerate(clean_rows())]
    report = check([*rows, changed(label="A-B")])
    assert [(one.check, one.line) for one in report.findings] == [("label_spelling", 61)]
    assert report.figures["labels"] == 5


def test_scores_of_pairs_are_no_labels(check: Examine) -> None:
    texts = [row["text"] for row in clean_rows(120)]
    rows = [{"text1": texts[at], "text2": texts[at + 60], "score": at % 11 / 2} for at in range(60)]
    assert check(rows, [{**rows[0], "text1": "another one than those", "score": 9.9}]).findings == ()


def test_several_references_are_no_long_answer(check: Examine) -> None:
    rows: list[Any] = [{"mr": row["text"], "refs": [row["text"][::-1]]} for row in clean_rows()]
    rows[5]["refs"] = [f"{number} {rows[5]['mr'][::-1]}" for number in range(60)]
    assert check(rows).findings == ()
