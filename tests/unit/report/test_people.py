"""What people said on the page of a run: figures, marks and comments, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from finished_run import write_rating, write_run
from tunesmith.cli.main import main
from tunesmith.errors import DataError
from tunesmith.evaluate.rating.folder import RATING
from tunesmith.evaluate.rating.intervals import wilson_interval
from tunesmith.report.page import run_page
from tunesmith.report.people import MOST_COMMENTS, read_people
from tunesmith.report.run_files import read_run_files
from tunesmith.report.runs_page import runs_page


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "out")


def test_win_rates_and_marks(run: Path, tmp_path: Path) -> None:
    ratings = write_rating(tmp_path / "ratings", ("base", str(run)))
    (said,) = read_people([ratings], [run])
    (one,) = said.preferences
    low, high = wilson_interval(0.25, 8)
    assert (one.model, one.against, one.counts, one.share) == ("base", "out (this run)", "4 / 0 / 12", 0.25)
    assert one.win_rate == f"25% ({low:.0%} to {high:.0%})"
    assert said.name == "ratings"
    assert said.words[0].startswith("No preference shown between out (this run) and base: out (this run) wins 75%")
    assert [(comment.rater, comment.item, comment.words) for comment in said.comments] == [
        ("Ada", 1, "too <i>long</i>, says nothing"),
        ("Bob", 1, "too <i>long</i>, says nothing"),
    ]


def test_models_of_the_same_name_keep_their_path(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "elsewhere" / "out")
    (said,) = read_people([write_rating(tmp_path / "ratings", (str(other), str(run)))], [run])
    assert (said.preferences[0].model, said.preferences[0].against) == (str(other), f"{run} (this run)")


def test_mean_scores_and_all_pairs_of_three(run: Path, tmp_path: Path) -> None:
    (said,) = read_people([write_rating(tmp_path / "scores", ("a", "b", "c"), scale="1-5")], [run])
    assert [(score.model, score.share) for score in said.scores] == [("a", 0.5), ("b", 0.7), ("c", 0.4)]
    assert said.scores[2].mean.startswith("2.00")
    assert len(said.preferences) == 3


def test_on_the_page(run: Path, tmp_path: Path) -> None:
    folders = [write_rating(tmp_path / "ratings", ("base", str(run))), write_rating(tmp_path / "scores", ("a", "b"), scale="1-5")]
    read = read_run_files(run)
    for page in (run_page(read, read_people(folders, [run])), runs_page([read, read], read_people(folders, []))):
        for part in (
            '<h2 id="people">Rated by people</h2>',
            "<h3>scores</h3>",
            "2 comments",
            "too &lt;i&gt;long&lt;/i&gt;, says",
            "Agreement between raters",
        ):
            assert part in page
    assert "(this run)" in run_page(read, read_people(folders, [run]))
    assert 'href="#people"' in run_page(read, read_people(folders, [run]))
    assert "Rated by people" not in run_page(read)


def test_only_so_many_comments(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.report.people.MOST_COMMENTS", 1)
    assert MOST_COMMENTS > 1
    people = read_people([write_rating(tmp_path / "ratings", ("base", "tuned"))], [run])
    assert (len(people[0].comments), people[0].num_more) == (1, 1)
    assert "2 comment" in run_page(read_run_files(run), people)
    assert "1 more are in the rating" in run_page(read_run_files(run), people)


def test_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ratings = write_rating(tmp_path / "ratings", ("base", "tuned"))
    assert main(["report", str(run), "--ratings", str(ratings)]) == 0
    assert "Rated by people" in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("votes", "said"), [(None, "there is no rating in this folder"), (0, "nobody has rated yet")])
def test_what_is_refused(votes: int | None, said: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ratings = tmp_path / "ratings" if votes is None else write_rating(tmp_path / "ratings", ("base", "tuned"), votes=votes)
    assert main(["report", str(run), "--ratings", str(ratings)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "tunesmith rate" in error
    assert not (run / "report.html").exists()


def test_a_rating_that_is_broken(run: Path, tmp_path: Path) -> None:
    ratings = write_rating(tmp_path / "ratings", ("base", "tuned"))
    (ratings / RATING).write_text('{"scale": ')
    with pytest.raises(DataError, match="can be read"):
        read_people([ratings], [run])
