"""Labels and answers: contradictions, spelling, how many rows each has."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from tunesmith.data.doctor.checks import Check, Context, Row, shown, text_hash
from tunesmith.data.doctor.findings import Finding
from tunesmith.data.splits import MOST_LABELS, ROWS_PER_LABEL
from tunesmith.errors import nearest

#: A class needs this many rows for one to be held out and a few to be learnt from.
FEWEST_ROWS = 5
#: How much larger than the middle class the largest may be.
MOST_IMBALANCE = 10.0
#: More different values for pairs of texts than this are scores.
MOST_GRADES = 3
#: More different answers than this are no labels.
MOST_ANSWERS = 10_000
_BETWEEN_WORDS = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W_])")


def label_key(label: str) -> str:
    """Return a label in small letters, one blank between its words: equal keys are spellings of one label. Signs (-1, C++) stay."""
    return _BETWEEN_WORDS.sub(" ", label.casefold().strip(" \t\r\n_.")) or label


def are_labels(num_answers: int, num_rows: int, task: str | None) -> bool:
    """Return whether answers are labels: the format says so, or they repeat as labels do."""
    if task in ("token-classification", "summarization") or (task == "similarity" and num_answers > MOST_GRADES):
        return False
    if task == "text-classification":
        return num_answers <= MOST_ANSWERS
    return 2 <= num_answers <= min(MOST_LABELS, num_rows // ROWS_PER_LABEL)


class Conflicts(Check):
    """The same question with different answers: for labels a contradiction, for free text several references."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._asked, self._answer, self._index, self._split = array("Q"), array("Q"), array("q"), array("b")

    def see(self, row: Row) -> Iterable[Finding]:
        """Take note of a row."""
        if row.prompt.strip() and row.answer and row.answer.strip():
            self._asked.append(row.asked_hash)
            self._answer.append(text_hash(label_key(row.answer)))
            self._index.append(row.index)
            self._split.append(row.split == "train")
        return ()

    def finish(self) -> Iterable[Finding]:
        """Return the rows that contradict the majority of those that ask the same (of two, the later one)."""
        import numpy as np

        if not self._asked:
            return
        asked, answer = np.frombuffer(self._asked, dtype=np.uint64), np.frombuffer(self._answer, dtype=np.uint64)
        asked = asked ^ np.frombuffer(self._split, dtype=np.int8).astype(np.uint64)  # a row and its leak are another finding
        order = np.argsort(asked, kind="stable")
        starts = np.flatnonzero(np.concatenate([[True], asked[order][1:] != asked[order][:-1]]))
        labels = are_labels(np.unique(answer).size, len(answer), self.context.roles.task)
        several = 0
        for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
            group = order[start:stop]
            if stop - start < 2 or len(set(answer[group].tolist())) < 2:
                continue
            several += 1
            if labels:
                yield from self._contradictions([int(at) for at in group], [int(answer[at]) for at in group])
        if several and not labels:
            yield Finding("several_answers", "note", f"{several:,} prompts have several different answers")

    def _contradictions(self, group: list[int], answers: list[int]) -> Iterable[Finding]:
        usual = max(answers, key=answers.count)
        first = self._index[group[answers.index(usual)]]
        for at, answer in zip(group, answers, strict=True):
            if answer != usual:
                index = self._index[at]
                message = f"another label than {self.context.places.name(first, beside=index)}, which asks the same"
                yield self.context.places.finding(index, "conflicting_label", "warning", message, "Correct one of them")


class Labels(Check):
    """How many rows each label has, spellings of one label, labels that training lacks."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._numbers: dict[str, int] = {}
        self._label, self._index, self._train = array("l"), array("q"), array("b")
        self._gave_up = False

    def see(self, row: Row) -> Iterable[Finding]:
        """Take note of a row's answer, as long as answers look like labels."""
        answer = (row.answer or "").strip()
        if self._gave_up or not answer or self.context.roles.is_plain_text:
            return ()
        number = self._numbers.setdefault(answer, len(self._numbers))
        if number >= MOST_ANSWERS:
            self._gave_up = True
            self._numbers, self._label, self._index, self._train = {}, array("l"), array("q"), array("b")
            return ()
        self._label.append(number)
        self._index.append(row.index)
        self._train.append(row.split == "train")
        return ()

    def finish(self) -> Iterable[Finding]:
        """Return what is wrong with the labels."""
        if not are_labels(len({label_key(name) for name in self._numbers}), len(self._label), self.context.roles.task) or self._gave_up:
            self._numbers = {}
            return
        names = list(self._numbers)
        usual = self._usual_spelling(names)
        train = Counter(usual[names[label]] for label, there in zip(self._label, self._train, strict=True) if there)
        yield from self._rows(names, usual, train)
        yield from self._classes(train)

    def _usual_spelling(self, names: list[str]) -> dict[str, str]:
        """Return for each label how most rows write it."""
        counts = Counter(self._label)
        most: dict[str, str] = {}
        for number, name in enumerate(names):
            key = label_key(name)
            if key not in most or counts[number] > counts[self._numbers[most[key]]]:
                most[key] = name
        return {name: most[label_key(name)] for name in names}

    def _rows(self, names: list[str], usual: Mapping[str, str], train: Counter[str]) -> Iterable[Finding]:
        places = self.context.places
        for label, index, there in zip(self._label, self._index, self._train, strict=True):
            name = names[label]
            if usual[name] != name:
                message = f"the label {shown(name)} is written {shown(usual[name])} in most rows"
                yield places.finding(index, "label_spelling", "warning", message, "Write it in one way: tunesmith data clean")
            elif not there and train and name not in train:
                close = nearest(name, train)
                message = f"the label {shown(name)} is in no training row"
                yield places.finding(index, "unseen_label", "warning", message, close or "Add training rows of it")

    def _classes(self, train: Counter[str]) -> Iterable[Finding]:
        if len(train) == 1:
            message = f"every training row has the label {shown(next(iter(train)))}"
            yield Finding("one_label", "warning", message, "Add rows of another label")
            return
        first: dict[int, int] = {}
        for label, index in zip(self._label, self._index, strict=True):
            first.setdefault(label, index)
        for name, count in train.items():
            if count < FEWEST_ROWS:
                message = f"the label {shown(name)} has {count} training row{'s' if count > 1 else ''}"
                fix = f"Add rows until it has {FEWEST_ROWS}, or leave it out"
                yield self.context.places.finding(first[self._numbers[name]], "small_class", "warning", message, fix)
        middle = median(train.values()) if train else 0
        largest, count = train.most_common(1)[0] if train else ("", 0)
        if (middle and count > MOST_IMBALANCE * middle) or count > 0.9 * sum(train.values()) > 0:
            message = f"the label {shown(largest)} has {count:,} of {sum(train.values()):,} training rows, the middle label {middle:g}"
            yield Finding("imbalance", "warning", message, "Add rows of the others, or weigh them: --class_weights balanced")

    def figures(self) -> Mapping[str, Any]:
        """Return the number of labels, where answers are labels."""
        return {"labels": len({label_key(name) for name in self._numbers})} if self._numbers else {}
