"""The page of a run: everything is on it, texts of models are escaped, and nothing is fetched."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from finished_run import write_lines, write_run
from tunesmith.errors import OutputError
from tunesmith.report.page import run_page, score_bars, usage, what_was_done, write_report
from tunesmith.report.run_files import read_run_files
from tunesmith.report.runs_page import differing_settings, runs_page, warnings, write_comparison

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Outline(HTMLParser):
    """Tags that don't close, ids that occur twice, and everything that names an address."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href", "action", "poster", "data"):
                self.addresses.append(value or "")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def outline(page: str) -> Outline:
    found = Outline()
    found.feed(page)
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return run_page(read_run_files(write_run(tmp_path_factory.mktemp("runs") / "letters")))


def test_it_is_whole_and_fetches_nothing(page: str) -> None:
    found = outline(page)
    assert (found.wrong, found.open) == ([], [])
    assert len(found.ids) == len(set(found.ids)), "ids occur once, also those in pictures"
    assert all(address.startswith(("#", "data:")) for address in found.addresses)
    assert not {"script", "img", "iframe", "object", "form"} & found.tags
    assert not re.search(r"url\((?!#)|@import|\bon\w+=", page)
    assert "default-src 'none'" in page


def test_inner_links_lead_somewhere(page: str) -> None:
    found = outline(page)
    assert {address[1:] for address in found.addresses if address.startswith("#") and len(address) > 1} <= set(found.ids)


def test_what_models_and_data_say_is_escaped(page: str) -> None:
    assert "where is my &lt;b&gt;card&lt;/b&gt; &amp; parcel?" in page
    assert "<b>card</b> &" not in page


@pytest.mark.parametrize(
    "part",
    [
        "Gain: accuracy 25.0% with the base model, 90.0% with the tuned model",
        "always the most frequent answer",
        "was fine-tuned for text-classification on mail.jsonl with lora; 60 steps",
        "<h3>Loss</h3>",
        "<h3>Learning rate</h3>",
        "<h3>Gradient norm</h3>",
        "<h3>Throughput</h3>",
        "<h3>Memory</h3>",
        "Confusion matrix",
        "<h3>Calibration</h3>",
        "The most improved rows",
        "The worst rows",
        "Held out of training",
        "<code>learning_rate</code>",
        "tunesmith.load(",
        "the weights of step 30 are kept",
    ],
)
def test_everything_is_there(page: str, part: str) -> None:
    assert part in page


def test_a_run_about_which_little_is_known(tmp_path: Path) -> None:
    page = run_page(read_run_files(write_run(tmp_path / "run", answers=False, train=(), validation=())))
    assert "No verdict" in page
    assert "<h3>Loss</h3>" not in page
    assert "Answers side by side" not in page
    assert outline(page).wrong == []


def test_fields_of_json_answers(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", task="extraction", outcome=False)
    rows = [
        {"row": 1, "input": "a", "references": ['{"city": "Rome", "day": 1}'], "output": '{"city": "Rome", "day": 2}', "score": 0.5},
        {"row": 2, "input": "b", "references": ['{"city": "Oslo"}'], "output": "no JSON", "score": 0.0},
    ]
    write_lines(folder / "predictions.jsonl", rows)
    page = run_page(read_run_files(folder))
    assert "Each field" in page
    assert re.search(r'>city</th><td class="number">100.0%</td><td class="number">50.0%</td><td class="number">66.7%</td>', page)


def test_the_file(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    assert write_report(folder) == folder / "report.html"
    assert write_report(folder) == folder / "report.html", "a run's own page is written anew"
    other = tmp_path / "page.html"
    assert write_report(folder, other) == other
    with pytest.raises(OutputError, match=r"page\.html is there already"):
        write_report(folder, other)
    assert write_report(folder, other, overwrite=True) == other
    with pytest.raises(OutputError, match="does not exist"):
        write_report(folder, tmp_path / "no" / "page.html")


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    run = read_run_files(write_run(tmp_path / "run"))
    assert run_page(run) == run_page(run)


def test_bars_are_as_long_as_the_scores(tmp_path: Path) -> None:
    verdict = read_run_files(write_run(tmp_path / "run")).verdict
    assert verdict is not None
    base, tuned, majority = score_bars(verdict)
    assert (base[0], base[1], base[2]) == ("base model", "25.0%", 0.25)
    assert (tuned[1], tuned[2], tuned[3]) == ("90.0%", 0.9, "")
    assert majority[0] == "always the most frequent answer"
    assert base[3].startswith("tuned +65.0 points (+")


def test_use_and_paragraph(tmp_path: Path) -> None:
    run = read_run_files(write_run(tmp_path / "a run", options={"data_files": ["/tmp/mail.jsonl"], "data_name": None}))
    assert any(f"tunesmith chat '{run.folder}'" == code for _, code in usage(run))
    assert "on mail.jsonl with" in what_was_done(run), "no folders of this machine"


def test_several_runs(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "one"),
        write_run(tmp_path / "two", options={"lora_r": 64}, tuned_right=20),
        write_run(tmp_path / "three", answers=False),
    ]
    runs = [read_run_files(folder) for folder in folders]
    page = runs_page(runs)
    found = outline(page)
    assert (found.wrong, found.open) == ([], [])
    assert len(found.ids) == len(set(found.ids))
    assert differing_settings(runs) == [("lora_r", ["", "64", ""])]
    for part in ("3 runs compared", ">no verdict<", ">gain<", "<h3>Validation loss</h3>", "90.0%"):
        assert part in page
    assert warnings(runs) == []
    path = write_comparison(folders, tmp_path / "runs.html")
    assert path.read_text(encoding="utf-8") == page
    with pytest.raises(OutputError, match="is there already"):
        write_comparison(folders, path)


def test_runs_that_cannot_be_compared_say_so(tmp_path: Path) -> None:
    runs = [read_run_files(write_run(tmp_path / name, first_input=name)) for name in ("one", "two")]
    assert "Not all runs were judged by the same rows" in warnings(runs)[0]


def test_runs_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name / "out") for name in ("a", "b")]
    page = runs_page([read_run_files(folder) for folder in folders])
    assert str(folders[0]) in page
    assert str(folders[1]) in page
