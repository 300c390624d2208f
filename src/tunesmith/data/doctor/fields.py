"""Columns: missing, empty, of another type than in other rows."""

from __future__ import annotations

from collections.abc import Iterable

from tunesmith.data.doctor.checks import Check, Context, Row, kind_in_words, shown
from tunesmith.data.doctor.findings import Finding

#: Places remembered of each type in a column; further ones are counted.
MOST_PLACES = 10_000
#: A type in fewer of a column's rows than this stands out; more often it is how the data is.
RARE = 0.2


class Fields(Check):
    """Rows without a column that they need, with nothing in it, or with blanks around it."""

    def see(self, row: Row) -> Iterable[Finding]:
        """Return what a row lacks."""
        missing = [name for name in self.context.roles.columns if name not in row.values and not self._elsewhere(row, name)]
        if missing:
            names = ", ".join(f"'{name}'" for name in missing)
            yield row.finding("missing_field", "warning", f"no {names}; it has: {', '.join(row.values)}", "Add it, or leave the row out")
            return
        if row.answer is None:
            return
        if not row.answer.strip():
            name = self.context.roles.answer_name()
            yield row.finding("empty_answer", "warning", f"{name} is empty", "Leave the row out: tunesmith data clean")
        elif not row.prompt.strip() and not self.context.roles.is_plain_text and self._has_prompt():
            yield row.finding("empty_prompt", "warning", "there is nothing before the answer", "Leave the row out: tunesmith data clean")
        elif row.answer != row.answer.strip():
            yield row.finding("blanks_around", "note", f"blanks around the answer {shown(row.answer, 30)}", "tunesmith data clean")

    def _elsewhere(self, row: Row, name: str) -> bool:
        """Whether an answer stands under another name that the format knows, as references of a test set do."""
        form = self.context.roles.form
        return form is not None and name == form.answer_column and bool(form.answers(row.values))

    def _has_prompt(self) -> bool:
        roles = self.context.roles
        return bool(roles.prompt_columns) or (roles.form is not None and not roles.form.is_conversation)


class Types(Check):
    """Columns whose values are texts in most rows and something else in a few."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._counts: dict[str, dict[str, int]] = {}
        self._places: dict[tuple[str, str], list[int]] = {}

    def see(self, row: Row) -> Iterable[Finding]:
        """Count the types of a row's values."""
        for name in self.context.roles.columns:
            value = row.values.get(name)
            if value is None:
                continue
            kind = kind_in_words(value)
            counts = self._counts.setdefault(name, {})
            counts[kind] = counts.get(kind, 0) + 1
            places = self._places.setdefault((name, kind), [])
            if len(places) < MOST_PLACES:
                places.append(row.index)
        return ()

    def finish(self) -> Iterable[Finding]:
        """Return the rows whose types stand out."""
        for name, counts in self._counts.items():
            usual = max(counts, key=lambda kind: counts[kind])
            total = sum(counts.values())
            for kind, count in counts.items():
                if kind == usual:
                    continue
                if count >= RARE * total:
                    yield Finding("mixed_types", "note", f"'{name}' is {usual} in {counts[usual]:,} rows and {kind} in {count:,}")
                    continue
                fix = f"Write {usual} there"
                for index in self._places[name, kind]:
                    yield self.context.places.finding(index, "wrong_type", "warning", f"'{name}' is {kind}, elsewhere {usual}", fix)
