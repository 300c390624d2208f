"""What the answers of a run show: which labels are confused, which fields are found, which rows got better or worse."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.report.run_files import Answered, RunFiles

#: A matrix of more labels can't be read; the pairs that are confused most often can.
MOST_MATRIX_LABELS = 15
MOST_LABELS = 100
_SAMPLES, _EXTREMES = 6, 5


@dataclass(frozen=True)
class PerName:
    """Precision, recall and F1 of a label or a field, 0 to 1; None where nothing was found or nothing was there."""

    name: str
    precision: float | None
    recall: float | None
    f1: float
    count: int


@dataclass(frozen=True)
class Confusion:
    """Right labels against given ones.

    Attributes:
        labels: rows and columns of the matrix; empty when there are too many.
        counts: ``counts[right][given]``.
        pairs: (right, given, rows), the most frequent mistakes first.
        per_label: for every label that occurs.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    pairs: tuple[tuple[str, str, int], ...]
    per_label: tuple[PerName, ...]


def confusion(answered: Sequence[Answered]) -> Confusion | None:
    """Return which labels are taken for which; None where answers are no labels."""
    rows = [(row.references[0].strip(), row.tuned.strip()) for row in answered if row.references]
    right = Counter(reference for reference, _ in rows)
    if not rows or len(right) > min(MOST_LABELS, max(2, len(rows) // 2)):
        return None
    given = Counter(answer for _, answer in rows)
    together = Counter(rows)
    labels = sorted(right) + sorted(set(given) - set(right))
    if len(labels) > MOST_MATRIX_LABELS:
        matrix: tuple[tuple[int, ...], ...] = ()
    else:
        matrix = tuple(tuple(together[(row, column)] for column in labels) for row in labels)
    mistakes = [(reference, answer, count) for (reference, answer), count in together.most_common() if reference != answer]
    per_label = tuple(_per_name(label, together[(label, label)], given[label], right[label]) for label in sorted(right))
    return Confusion(tuple(labels) if matrix else (), matrix, tuple(mistakes[:10]), per_label)


def fields(answered: Sequence[Answered]) -> list[PerName]:
    """Return how well each field of JSON answers is found; empty where references are no JSON objects."""
    found, wanted, right = Counter[str](), Counter[str](), Counter[str]()
    for row in answered:
        reference = _leaves(_json(row.references[0] if row.references else ""))
        if not reference and _json(row.references[0] if row.references else "") is None:
            return []
        answer = _leaves(_json(row.tuned))
        for counter, values in ((found, answer), (wanted, reference), (right, answer & reference)):
            for (path, _), count in values.items():
                counter[path] += count
    return [_per_name(name, right[name], found[name], wanted[name]) for name in sorted({*found, *wanted})]


def _per_name(name: str, right: int, found: int, wanted: int) -> PerName:
    return PerName(
        name=name,
        precision=right / found if found else None,
        recall=right / wanted if wanted else None,
        f1=2 * right / (found + wanted) if found + wanted else 1.0,
        count=wanted,
    )


def _json(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, (dict, list)) else None


def _leaves(value: Any, path: str = "") -> Counter[tuple[str, str]]:
    """Return (path, value) of everything in an answer that is neither object nor list, as the metric ``extraction`` counts it."""
    if isinstance(value, dict):
        return sum((_leaves(item, f"{path}.{key}" if path else str(key)) for key, item in value.items()), Counter())
    if isinstance(value, list):
        return sum((_leaves(item, path) for item in value), Counter())
    return Counter({(path, json.dumps(value)): 1}) if value is not None or path else Counter()


def samples(answered: Sequence[Answered], count: int = _SAMPLES) -> list[Answered]:
    """Return rows spread evenly over all."""
    step = max(1, len(answered) // count)
    return list(answered[::step][:count])


def worst(answered: Sequence[Answered], count: int = _EXTREMES) -> list[Answered]:
    """Return the rows that came out worst: those that the base did better first, then those with the lowest score."""
    scored = [row for row in answered if row.tuned_score is not None and (row.tuned_score < 1 or row.change < 0)]
    return sorted(scored, key=lambda row: (min(row.change, 0.0), row.tuned_score))[:count]


def most_improved(answered: Sequence[Answered], count: int = _EXTREMES) -> list[Answered]:
    """Return the rows that gained most over the base."""
    return sorted((row for row in answered if row.change > 0), key=lambda row: -row.change)[:count]


def decisions(answered: Sequence[Answered]) -> tuple[list[float], list[bool]]:
    """Return how sure each choice among labels was, and whether it was right; empty where no probabilities are known."""
    chosen = [row for row in answered if row.probability is not None and row.references]
    right = [row.tuned.strip() in {text.strip() for text in row.references} for row in chosen]
    return [row.probability or 0.0 for row in chosen], right


def data_summary(run: RunFiles) -> list[tuple[str, str]]:
    """Return what is known of the data, as (what, how much)."""
    named = [str(name) for option in ("data_name", "data_files") for name in _listed(run.option(option))]
    told = [("Data", ", ".join(named) or "not recorded")]
    for option, words in (("train_split", "Training rows"), ("eval_split", "Validation rows"), ("max_samples", "At most")):
        if run.option(option) is not None:
            told.append((words, str(run.option(option))))
    if run.num_held_out:
        told.append(("Held out of training", f"{run.num_held_out:,} rows"))
    if run.num_cut or run.num_dropped:
        told.append(("Too long", f"{run.num_cut:,} training rows cut, {run.num_dropped:,} left out (cut_rows.jsonl)"))
    if run.answered:
        told.append(("Answered for the verdict", f"{len(run.answered):,} rows"))
        told.append(("Words of an input", _spread([len(row.input.split()) for row in run.answered])))
        told.append(("Words of a reference", _spread([len(row.references[0].split()) for row in run.answered if row.references])))
        unfinished = sum(not row.stopped for row in run.answered)
        if unfinished:
            told.append(("Answers cut before their end", f"{unfinished:,} of {len(run.answered):,}"))
    return told


def label_shares(answered: Sequence[Answered]) -> list[tuple[str, int, float]]:
    """Return (label, rows, share of the most frequent one) of the references, where they repeat as labels do."""
    counts = Counter(row.references[0].strip() for row in answered if row.references)
    if not counts or len(counts) > min(30, max(2, len(answered) // 2)):
        return []
    most = max(counts.values())
    return [(label, count, count / most) for label, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def settings(run: RunFiles) -> list[tuple[str, str, str]]:
    """Return every setting that was given or chosen: name, value, where it came from."""
    return [
        (name, _shown(entry.get("value")), str(entry.get("source", "")))
        for name, entry in sorted(run.manifest.options.items())
        if isinstance(entry, Mapping) and entry.get("value") is not None and entry.get("source") != "default"
    ]


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=str)


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def _spread(lengths: Sequence[int]) -> str:
    if not lengths:
        return "none"
    return f"{min(lengths):,} to {max(lengths):,}, half of them up to {statistics.median(lengths):,.0f}"
