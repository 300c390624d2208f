"""The folder of a run: what an earlier run left there is not taken for this one's, and the verdict gets onto the card."""

from __future__ import annotations

from pathlib import Path

from tunesmith.train.results import clear, tell_verdict


def test_nothing_of_an_earlier_run_is_taken_for_this_one(tmp_path: Path) -> None:
    for name in ("verdict.json", "predictions.jsonl", "report.html", "README.md", "held_out.jsonl", "manifest.json", "my.txt"):
        (tmp_path / name).write_text("{}")
    for name in ("adapter", "ratings"):
        (tmp_path / name).mkdir()
    clear(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.txt", "ratings"], "what people wrote stays"


def test_the_verdict_is_told_on_the_card(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\na: b\n---\n\n# Title\n\nWhat it is.\n\n## How to use\n\nSo.\n", encoding="utf-8")
    tell_verdict(tmp_path, ["Gain: é.", "More."])
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert card == "---\na: b\n---\n\n# Title\n\nWhat it is.\n\n## Verdict\n\nGain: é.\n\nMore.\n\n## How to use\n\nSo.\n"
