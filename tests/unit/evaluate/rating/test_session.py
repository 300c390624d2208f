"""What the page is told and may say: never a model's name, every vote kept, the last one counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import OutputError, UsageError
from tunesmith.evaluate.rating.folder import VOTES, Rating, read_answers_of, read_votes
from tunesmith.evaluate.rating.json_log import JsonLog, read_json_log
from tunesmith.evaluate.rating.session import MAX_COMMENT, RatingSession, UnknownScreen

Open = Callable[[Rating], RatingSession]


@pytest.fixture
def open_session() -> Any:
    """Open a session on a rating; its log is closed in the end."""
    logs: list[JsonLog] = []

    def start(rating: Rating) -> RatingSession:
        logs.append(JsonLog(rating.folder / VOTES))
        return RatingSession(rating, read_answers_of(rating), logs[-1])

    yield start
    for log in logs:
        log.close()


def test_a_round_of_votes(make_rating: Any, open_session: Open) -> None:
    rating = make_rating()
    session = open_session(rating)
    reply = session.begin("Ada")
    assert (reply["number"], reply["done"], reply["total"], reply["finished"], reply["vote"]) == (1, 0, 4, False, None)
    for number, verdict in enumerate((1, 2, 0, 1), start=1):
        assert reply["number"] == number
        chosen = reply["answers"][verdict - 1] if verdict else None
        reply = session.vote("Ada", number, verdict, f"  words {number} ")
        vote = read_votes(rating)[-1]
        assert vote.comment == f"words {number}"
        assert (vote.winner is None) == (verdict == 0)
        if chosen is not None:
            assert chosen.startswith("one" if vote.winner == "anna-7b" else "two"), "the place on the screen leads to the right model"
    assert reply == {"rater": "Ada", "scale": "pairs", "total": 4, "done": 4, "number": 5, "finished": True}


@pytest.mark.parametrize("scale", ["pairs", "1-5"])
def test_no_name_of_a_model_leaves_the_program(scale: str, make_rating: Any, open_session: Open) -> None:
    session = open_session(make_rating(scale=scale, models=("anna-7b", "bert-9z", "carl-3q")))
    said = [session.begin("Ada")]
    for number in range(1, said[0]["total"] + 1):
        said += [session.vote("Ada", number, 1 if scale == "pairs" else [1, 2, 3], ""), session.screen("Ada", number)]
    text = json.dumps(said)
    assert "says" in text
    assert not any(name in text for name in ("anna", "bert", "carl"))


def test_the_last_vote_counts(make_rating: Any, open_session: Open) -> None:
    rating = make_rating()
    session = open_session(rating)
    session.vote("Ada", 2, 1, "first")
    session.vote("Ada", 2, 2, "second")
    assert session.screen("Ada", 2)["vote"] == {"verdict": 2, "comment": "second"}
    assert len(read_json_log(rating.folder / VOTES)) == 2
    assert [vote.comment for vote in read_votes(rating)] == ["second"]
    assert session.begin("Ada")["done"] == 1


def test_it_goes_on_after_a_restart(make_rating: Any, open_session: Open) -> None:
    rating = make_rating()
    first = open_session(rating)
    before = first.screen("Ada", 2)
    first.vote("Ada", 1, 0, "")
    first.vote("Ada", 3, 0, "")
    again = open_session(rating)
    assert again.screen("Ada", 2) == {**before, "done": 2}
    assert again.begin("Ada")["number"] == 2
    assert again.vote("Ada", 2, 1, "")["number"] == 4, "what is rated already is passed over"


def test_after_the_last_screen_come_those_left_out(make_rating: Any, open_session: Open) -> None:
    session = open_session(make_rating())
    assert session.vote("Ada", 4, 0, "")["number"] == 1


def test_scores(make_rating: Any, open_session: Open) -> None:
    rating = make_rating(scale="1-5")
    session = open_session(rating)
    answers = session.begin("Ada")["answers"]
    session.vote("Ada", 1, [5, 2], "")
    scores = read_votes(rating)[0].scores
    assert scores == ({"anna-7b": 5, "bert-9z": 2} if answers[0].startswith("one") else {"anna-7b": 2, "bert-9z": 5})
    assert session.screen("Ada", 1)["vote"]["verdict"] == [5, 2]


def test_case_and_blanks_make_no_other_rater(make_rating: Any, open_session: Open) -> None:
    rating = make_rating()
    session = open_session(rating)
    assert session.vote("  Ada   L. ", 1, 1, "")["rater"] == "Ada L."
    assert session.begin("ada l.")["done"] == 1
    assert session.begin("Eve")["done"] == 0
    assert open_session(rating).begin("ADA L.")["rater"] == "Ada L."


@pytest.mark.parametrize("rater", [None, 3, "", "  ", "x" * 61, "a\x00b", "a\u202eb"])
def test_names_that_are_none(rater: object, make_rating: Any, open_session: Open) -> None:
    with pytest.raises(UsageError, match="name"):
        open_session(make_rating()).begin(rater)


@pytest.mark.parametrize("number", [0, 5, -1, 10**30])
def test_unknown_screens(number: int, make_rating: Any, open_session: Open) -> None:
    session = open_session(make_rating())
    with pytest.raises(UnknownScreen, match="there is no prompt"):
        session.vote("Ada", number, 1, "")
    with pytest.raises(UnknownScreen):
        session.screen("Ada", number)


@pytest.mark.parametrize(
    ("scale", "number", "verdict", "comment", "words"),
    [
        ("pairs", 1, 3, "", "1, 2, or 0 for a tie"),
        ("pairs", 1, -1, "", "0 for a tie"),
        ("pairs", 1, True, "", "0 for a tie"),
        ("pairs", 1, "1", "", "0 for a tie"),
        ("pairs", 1, None, "", "0 for a tie"),
        ("pairs", True, 1, "", "a whole number"),
        ("pairs", "1", 1, "", "a whole number"),
        ("pairs", 1, 1, None, "a comment is a text"),
        ("pairs", 1, 1, "x" * (MAX_COMMENT + 1), "at most 10,000 letters"),
        ("1-5", 1, 1, "", "2 numbers from 1 to 5"),
        ("1-5", 1, [1, 6], "", "2 numbers from 1 to 5"),
        ("1-5", 1, [1, 2, 3], "", "2 numbers from 1 to 5"),
        ("1-5", 1, [1, True], "", "2 numbers from 1 to 5"),
    ],
)
def test_votes_that_are_none(
    scale: str, number: object, verdict: object, comment: object, words: str, make_rating: Any, open_session: Open
) -> None:
    rating = make_rating(scale=scale)
    with pytest.raises(UsageError, match=words):
        open_session(rating).vote("Ada", number, verdict, comment)
    assert read_votes(rating) == []


def test_a_vote_that_is_not_on_the_disk_is_not_counted(make_rating: Any, open_session: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_session(make_rating())

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(OutputError, match="Input/output error"):
        session.vote("Ada", 1, 1, "")
    assert session.begin("Ada")["done"] == 0


def test_what_comes_after_the_end_is_refused(make_rating: Any, open_session: Open) -> None:
    rating = make_rating()
    session = open_session(rating)
    session.vote("Ada", 1, 1, "")
    session.close()
    with pytest.raises(OutputError, match="has ended"):
        session.vote("Ada", 2, 1, "")
    assert len(read_votes(rating)) == 1


def test_a_log_of_something_else_is_refused(make_rating: Any, open_session: Open, tmp_path: Path) -> None:
    rating = make_rating()
    (rating.folder / VOTES).write_text('{"rater": "Ada", "item": 9, "shown": ["anna-7b", "bert-9z"], "winner": null}\n')
    with pytest.raises(Exception, match=r"line 1 is no vote of this rating"):
        open_session(rating)
