"""What votes say, against figures worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunesmith.errors import DataError
from tunesmith.evaluate.rating.folder import VOTES, Rating, Vote, read_answers_of
from tunesmith.evaluate.rating.intervals import wilson_interval
from tunesmith.evaluate.rating.json_log import JsonLog
from tunesmith.evaluate.rating.rate import summary_and_export
from tunesmith.evaluate.rating.summary import RatingSummary, read_summary, summarize

A, B, C = "anna-7b", "bert-9z", "carl-3q"


def pair(rater: str, item: int, winner: str | None, shown: tuple[str, ...] = (A, B), comment: str = "") -> Vote:
    return Vote(rater, item, shown, winner, None, comment, "2026-01-01T00:00:00+00:00")


def scored(rater: str, item: int, first: int, second: int) -> Vote:
    return Vote(rater, item, (B, A), None, {A: first, B: second}, "", "2026-01-01T00:00:00+00:00")


def result(rating: Rating, *votes: Vote) -> RatingSummary:
    return summarize(rating, read_answers_of(rating), votes)


def test_win_rate_with_ties_halved(make_rating: Any) -> None:
    found = result(make_rating(), pair("Ada", 1, A), pair("Ada", 2, A, (B, A)), pair("Ada", 3, None), pair("Ada", 4, B)).comparisons
    assert len(found) == 1
    one = found[0]
    assert (one.model, one.against, one.wins, one.ties, one.losses, one.num_prompts) == (A, B, 2, 1, 1, 4)
    assert one.win_rate == pytest.approx(2.5 / 4)
    assert one.interval == pytest.approx(wilson_interval(0.625, 4))
    assert one.outcome == "no preference shown"


def test_several_raters_of_one_prompt_are_one_trial(make_rating: Any) -> None:
    rating = make_rating(num_prompts=2)
    votes = [pair(rater, item, A if item == 1 or rater == "Ada" else B) for rater in ("Ada", "Bob", "Eve") for item in (1, 2)]
    one = result(rating, *votes).comparisons[0]
    assert (one.wins, one.losses, one.num_prompts) == (4, 2, 2)
    assert one.win_rate == pytest.approx((1 + 1 / 3) / 2)
    assert one.interval == pytest.approx(wilson_interval(2 / 3, 2)), "two prompts are two trials, whoever judged them"


def test_a_clear_preference_is_said_from_the_winners_side(make_rating: Any) -> None:
    found = result(make_rating(num_prompts=12), *(pair("Ada", item, B) for item in range(1, 13)))
    assert found.comparisons[0].outcome == "not preferred"
    low = 1 - wilson_interval(0.0, 12)[1]
    assert found.words[0] == f"{B} is preferred to {A}: it wins 100% of 12 prompts (95% interval {low:.0%} to 100%, ties count half)."
    assert found.words[-1] == "12 votes on 12 prompts; rated so far: Ada 12 of 12."


def test_what_nobody_was_asked_is_counted_apart(make_rating: Any) -> None:
    rating = make_rating(num_prompts=2)
    answers = [{A: "x", B: "y"}, {A: "same", B: "same "}]
    one = summarize(rating, answers, [pair("Ada", 1, A)]).comparisons[0]
    assert (one.num_prompts, one.num_same, one.win_rate) == (1, 1, 1.0)
    found = summarize(rating, answers, [pair("Ada", 1, A)])
    assert "On 1 more both gave the same answer." in found.words[0]
    assert found.raters[0].num_screens == 1


def test_three_models_by_pairs(make_rating: Any) -> None:
    rating = make_rating(models=(A, B, C))
    found = result(rating, pair("Ada", 1, C, (A, C)), pair("Ada", 1, B, (B, A)), pair("Ada", 2, None, (C, A)))
    assert [(one.model, one.against, one.wins, one.ties, one.losses) for one in found.comparisons] == [(A, B, 0, 0, 1), (A, C, 0, 1, 1)]
    assert found.raters[0].num_screens == 12


def test_scores(make_rating: Any) -> None:
    found = result(make_rating(scale="1-5"), scored("Ada", 1, 5, 3), scored("Bob", 1, 4, 4), scored("Ada", 2, 2, 3))
    assert [(one.model, one.mean, one.num_prompts) for one in found.scores] == [(A, (4.5 + 2) / 2, 2), (B, (3.5 + 3) / 2, 2)]
    assert found.scores[0].interval == (1.0, 5.0), "cut where the scale ends"
    one = found.comparisons[0]
    assert (one.wins, one.ties, one.losses, one.win_rate) == (1, 1, 1, pytest.approx((0.75 + 0) / 2))
    assert found.agreement is not None
    assert (found.agreement.measure, found.agreement.num_units) == ("Cohen's kappa, quadratic weights", 2)
    assert any("mean score 3.25 of 5" in word for word in found.words)


def test_agreement_is_about_models_not_places(make_rating: Any) -> None:
    votes = [pair("Ada", 1, A), pair("Bob", 1, A, (B, A)), pair("Ada", 2, B), pair("Bob", 2, B, (B, A)), pair("Ada", 3, None)]
    found = result(make_rating(), *votes).agreement
    assert found is not None
    assert (found.kappa, found.num_units, found.share) == (1.0, 2, 1.0)


@pytest.mark.parametrize(
    ("votes", "words"),
    [
        ([pair("Ada", 1, A)], "One rater: how far raters agree is not known."),
        ([pair("Ada", 1, A), pair("Bob", 2, A)], "There is nothing that all raters rated, so no kappa."),
        ([pair("Ada", 1, A), pair("Bob", 1, A)], "all are the same, so kappa is undefined"),
        ([pair("Ada", 1, A), pair("Bob", 1, A), pair("Ada", 2, B), pair("Bob", 2, B)], "Cohen's kappa 1.00, almost perfect (100% of"),
    ],
)
def test_agreement_in_words(votes: list[Vote], words: str, make_rating: Any) -> None:
    assert words in " ".join(result(make_rating(), *votes).words)


def test_reading_and_exporting_a_folder(make_rating: Any, tmp_path: Any) -> None:
    rating = make_rating()
    assert read_summary(tmp_path / "nowhere") is None
    assert read_summary(rating.folder) is None
    with pytest.raises(DataError, match="nobody has rated yet"):
        summary_and_export(rating.folder)
    with JsonLog(rating.folder / VOTES) as log:
        for vote in (pair("Ada", 1, A), pair("Ada", 1, B, comment="ü <b>"), pair("Ada", 2, None, (B, A))):
            log.append(vote.to_dict())
    summary, path = summary_and_export(rating.folder)
    assert read_summary(str(rating.folder)) == summary
    assert (summary.num_votes, summary.comments) == (2, (("Ada", 1, "ü <b>"),))
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row["item"] for row in rows] == [1, 2, 3, 4]
    assert rows[0] == {
        "item": 1,
        "prompt": "prompt 1",
        "reference": "so",
        "answers": {A: "one says 1", B: "two says 1"},
        "votes": [{"rater": "Ada", "shown": [A, B], "winner": B, "comment": "ü <b>", "time": "2026-01-01T00:00:00+00:00"}],
    }
    assert rows[3]["votes"] == []
    assert json.loads(json.dumps(summary.to_dict()))["words"] == list(summary.words)
