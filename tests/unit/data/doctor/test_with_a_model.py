"""With the tokenizer of a model: its own special tokens, lengths in tokens, what is learnt."""

from __future__ import annotations

from typing import Any

from doctor_rows import Examine, clean_rows

from tiny_models import tiny_tokenizer


def rows() -> list[dict[str, Any]]:
    return [{"prompt": row["text"], "completion": row["text"][::-1]} for row in clean_rows()]


def test_lengths_and_the_learnt_share_are_figures(check: Examine) -> None:
    figures = check(rows(), tokenizer=tiny_tokenizer(), checks=["tokens"]).figures
    assert 10 < figures["tokens_median"] <= figures["tokens_99_percent"] <= figures["tokens_most"]
    assert 0.3 < figures["learnt_share"] < 0.7


def test_rows_that_dont_fit(check: Examine) -> None:
    some = rows()
    most = check(some, tokenizer=tiny_tokenizer(), checks=["tokens"]).figures["tokens_most"]
    some[7]["completion"] *= 3
    some[9]["prompt"] *= 4
    report = check(some, tokenizer=tiny_tokenizer(), checks=["tokens"], max_seq_len=most)
    assert [(one.check, one.line) for one in report.findings] == [("cut_row", 8), ("no_room_for_answer", 10)]
    assert report.findings[0].fix.startswith("Shorten it, or train with --max_seq_len")


def test_little_is_learnt_of_long_prompts(check: Examine) -> None:
    some = [{"prompt": row["text"] * 12, "completion": "y"} for row in clean_rows()]
    assert [one.check for one in check(some, tokenizer=tiny_tokenizer(), checks=["tokens"]).findings] == ["little_learnt"]


def test_the_models_own_tokens_are_errors_those_of_others_warnings(check: Examine) -> None:
    some = rows()
    own = tiny_tokenizer().eos_token
    some[3]["prompt"] += f" {own} more"
    some[5]["completion"] = f"over [INST] {some[5]['completion']}"
    report = check(some, tokenizer=tiny_tokenizer(), checks=["special_tokens"])
    assert [(one.check, one.severity, one.line) for one in report.findings] == [
        ("special_token", "error", 4),
        ("foreign_token", "warning", 6),
    ]


def test_rows_that_the_template_refuses(check: Examine) -> None:
    some: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": row["text"]}, {"role": "assistant", "content": "y"}]} for row in clean_rows(20)
    ]
    some[4]["messages"][0]["content"] = [{"type": "image", "url": "x"}]
    report = check(some, tokenizer=tiny_tokenizer(), checks=["tokens"])
    assert [(one.check, one.severity, one.line) for one in report.findings] == [("template_refuses", "error", 5)]
