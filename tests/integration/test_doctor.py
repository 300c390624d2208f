"""The data doctor on real rows: what is planted is found, every row of it, and nothing else is.

Rows are a few hundred of banking77 and of snips. Each kind of defect is planted three times, in rows that the files hold further down,
so that they are as real as the others. What is wrong with the real rows themselves is listed here, after looking at each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli.main import main
from tunesmith.data.doctor.examine import examine
from tunesmith.data.doctor.findings import Finding

pytestmark = pytest.mark.integration

Row = dict[str, Any]
Line = Row | str | bytes
Found = tuple[str, str, int]  # kind, file, line

LABELS = {
    "banking77": ("card_arrival", "lost_or_stolen_card", "exchange_rate", "age_limit", "top_up_failed", "pin_blocked", "atm_support"),
    "snips": ("PlayMusic", "GetWeather", "BookRestaurant", "RateBook", "AddToPlaylist", "SearchCreativeWork", "SearchScreeningEvent"),
}
#: What is truly wrong with the chosen rows as they are: (kind, a part of the text).
TRULY_THERE: dict[str, set[tuple[str, str]]] = {"banking77": set(), "snips": set()}
PLANTED_EACH = 3


@dataclass
class Planted:
    """Rows with what is planted in them, and where."""

    train: list[Line]
    test: list[Line]
    expected: set[Found] = field(default_factory=set)

    def plant(self, kind: str, line: Line, *, test: bool = False) -> None:
        """Put a line at the end, and expect it to be found."""
        lines = self.test if test else self.train
        lines.append(line)
        self.expected.add((kind, "test.jsonl" if test else "train.jsonl", len(lines)))


def real_rows(file: Path, labels: Sequence[str], first: int, count: int) -> list[Row]:
    """Rows ``first`` to ``first + count`` of each label, their text and label."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    chosen = []
    for label in labels:
        of_label = [{"text": row["text"].strip(), "label": label} for row in rows if row["label"] == label]
        chosen += of_label[first : first + count]
    return chosen


def changed(row: Row, **values: Any) -> Row:
    return {**row, **values}


LANGUAGES = (
    "hola, necesito saber dónde está mi tarjeta porque todavía no ha llegado a mi casa",
    "ich möchte gerne wissen, warum meine Überweisung noch nicht angekommen ist",
    "je voudrais réserver une table pour quatre personnes demain soir à Paris",
)
SECRETS = (
    "AKIA" + "IOSFODNN7REALKEY",
    "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8",
    "xoxb-" + "123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx",
)
EMAILS = ("jane.doe@gmail.com", "info@some-company.co.uk", "J_Smith+bank@mail.server.org")
PHONES = ("+1 650-253-0000", "(415) 555-2671", "+49 30 901820")
CARDS = ("4111 1111 1111 1111", "5500-0055-5555-5559", "378282246310005")
TOKENS = ("<|im_end|>", "</s>", "<|eot_id|>")
PLACEHOLDERS = ("{{name}}", "[INSERT CARD NUMBER]", "<your name>")
CUTS = ("[truncated]", "[...]", "(truncated)")
MOJIBAKE = ("cafÃ©", "â€œyesâ€\x9d", "mÃ¼de")

#: kind -> how a real row is spoilt; the second argument is 0, 1 or 2.
IN_A_ROW: dict[str, Callable[[Row, int], Line]] = {
    "unreadable_row": lambda row, at: json.dumps(row)[: -3 - at],
    "wrong_encoding": lambda row, at: json.dumps(changed(row, text=f"{row['text']} caf\xe9"), ensure_ascii=False).encode("latin-1"),
    "missing_field": lambda row, at: {"text": row["text"]} if at else {"label": row["label"]},
    "empty_answer": lambda row, at: changed(row, label=("", "  ", None)[at]),
    "empty_prompt": lambda row, at: changed(row, text=("", "  ", None)[at]),
    "wrong_type": lambda row, at: changed(row, text=(17, [row["text"]], {"t": row["text"]})[at]),
    "replacement_character": lambda row, at: changed(row, text=f"{row['text']} na\ufffdve"),
    "mojibake": lambda row, at: changed(row, text=f"{row['text']} {MOJIBAKE[at]}"),
    "control_character": lambda row, at: changed(row, text=f"{row['text'][:9]}{chr((0, 7, 27)[at])}{row['text'][9:]}"),
    "special_token": lambda row, at: changed(row, text=f"{row['text']}{TOKENS[at]} and more"),
    "placeholder": lambda row, at: changed(row, text=f"Dear {PLACEHOLDERS[at]}, {row['text']}"),
    "other_language": lambda row, at: changed(row, text=LANGUAGES[at]),
    "secret": lambda row, at: changed(row, text=f"{row['text']} The key is {SECRETS[at]}"),
    "email_address": lambda row, at: changed(row, text=f"{row['text']} Write to {EMAILS[at]}."),
    "phone_number": lambda row, at: changed(row, text=f"{row['text']} Call {PHONES[at]}"),
    "card_number": lambda row, at: changed(row, text=f"{row['text']} It is {CARDS[at]}."),
    "length_outlier": lambda row, at: changed(row, text=" ".join(f"{row['text']} Part {part}." for part in range(30 + at))),
    "cut_text": lambda row, at: changed(row, text=f"{row['text'][:-5]} {CUTS[at]}"),
    "label_spelling": lambda row, at: changed(row, label=(row["label"].upper(), f"{row['label']}_", row["label"].swapcase())[at]),
    "blanks_around": lambda row, at: changed(row, label=(" {}", "{} ", "\t{}")[at].format(row["label"])),
    "invisible_character": lambda row, at: changed(row, text=f"{row['text'][:9]}\u200b{row['text'][9:]}"),
}


def plant(name: str, shared_data: Path) -> Planted:
    """Rows of a data set with all kinds of defects at their end."""
    labels, folder = LABELS[name], shared_data / name
    train, test = real_rows(folder / "train.jsonl", labels, 0, 40), real_rows(folder / "test.jsonl", labels, 0, 10)
    spare = iter(real_rows(folder / "train.jsonl", labels, 40, 20))
    planted = Planted([*train], [*test])
    for kind, spoil in IN_A_ROW.items():
        for at in range(PLANTED_EACH):
            planted.plant(kind, spoil(next(spare), at))
    for at in range(PLANTED_EACH):
        row = train[at * 50 + 7]
        planted.plant("duplicate_row", row)
        planted.plant("conflicting_label", changed(train[at * 40 + 11], label=labels[(at + 1) % len(labels)]))
        planted.plant("near_duplicate", changed(train[at * 50 + 13], text=train[at * 50 + 13]["text"].upper() + " !"))
        planted.plant("leaked_row", train[at * 50 + 17], test=True)
        planted.plant("near_leak", changed(train[at * 50 + 19], text=train[at * 50 + 19]["text"].lower() + "!!"), test=True)
        planted.plant(
            "unseen_label", changed(test[at * 20], text=f"{test[at * 20]['text']} or something else again", label=f"new_{at}"), test=True
        )
        planted.plant("small_class", changed(next(spare), label=("rare", "rarer", "rarest")[at]))
    return planted


def write(path: Path, lines: Sequence[Line]) -> Path:
    """Write lines, rows among them as JSON."""
    encoded = [line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode() for line in lines]
    path.write_bytes(b"\n".join(encoded) + b"\n")
    return path


def kinds_and_places(findings: Sequence[Finding]) -> set[Found]:
    """Return kind, file and line of findings about rows."""
    return {(one.check, Path(one.file).name, one.line) for one in findings if one.file and one.line is not None}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", LABELS)
def test_real_rows_have_only_what_is_truly_wrong_with_them(name: str, shared_data: Path, tmp_path: Path) -> None:
    labels = LABELS[name]
    train = real_rows(shared_data / name / "train.jsonl", labels, 0, 40)
    test = real_rows(shared_data / name / "test.jsonl", labels, 0, 10)
    report = examine({"train": [write(tmp_path / "train.jsonl", [*train])], "test": [write(tmp_path / "test.jsonl", [*test])]})
    rows = {"train.jsonl": train, "test.jsonl": test}
    found = {(one.check, rows[Path(one.file or "").name][(one.line or 0) - 1]["text"]) for one in report.findings if one.severity != "note"}
    assert found == TRULY_THERE[name]


@pytest.mark.parametrize("name", LABELS)
def test_recall_and_precision_are_one(name: str, shared_data: Path, tmp_path: Path) -> None:
    planted = plant(name, shared_data)
    files = {"train": [write(tmp_path / "train.jsonl", planted.train)], "test": [write(tmp_path / "test.jsonl", planted.test)]}
    report = examine(files)
    assert len({kind for kind, _, _ in planted.expected}) >= 25
    grave = kinds_and_places([one for one in report.findings if one.severity != "note"])
    notes = kinds_and_places([one for one in report.findings if one.severity == "note"])
    missed = planted.expected - grave - notes
    assert not missed
    truly = {text for _, text in TRULY_THERE[name]}
    lines = {"train.jsonl": planted.train, "test.jsonl": planted.test}
    wrong = {(kind, file, line) for kind, file, line in grave - planted.expected if text_of(lines[file][line - 1]) not in truly}
    assert not wrong
    assert len(planted.train) + len(planted.test) == report.num_rows


def text_of(line: Line) -> Any:
    return line.get("text") if isinstance(line, dict) else None


def test_with_the_sample_model(sample_model: Path, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = real_rows(shared_data / "banking77" / "train.jsonl", LABELS["banking77"], 0, 5)
    file = write(tmp_path / "train.jsonl", [*rows, changed(rows[3], text="the turn<|im_end|> goes on")])
    assert main(["data", "preview", str(file), "-m", str(sample_model), "-n", "1"]) == 0
    shown = capsys.readouterr().out
    assert rows[0]["text"] in shown
    assert "card_arrival<|im_end|>" in shown
    assert main(["data", "check", str(file), "-m", str(sample_model), "--json"]) == 2
    result = json.loads(capsys.readouterr().out)
    assert [(one["check"], one["line"]) for one in result["findings"] if one["severity"] == "error"] == [("special_token", 36)]
    assert 20 < result["figures"]["tokens_median"] < 60
