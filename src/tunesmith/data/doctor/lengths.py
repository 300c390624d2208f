"""Rows that are far longer than the rest, and texts that were cut off before they came here."""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tunesmith.data.doctor.checks import Check, Context, Row, shown
from tunesmith.data.doctor.findings import Finding
from tunesmith.data.doctor.roles import JOINT

#: A row stands out when it is longer than this many middle rows and this many of the row at 95%.
TIMES_MEDIAN, TIMES_95 = 10, 4
#: Rows of exactly the greatest length that tell of a limit, their least share, and the least length (in letters) that is looked at.
PILE_ROWS, PILE_SHARE, PILE_LENGTH = 5, 0.01, 100
#: Share of answers that are JSON from which one that isn't is a mistake.
MOSTLY_JSON = 0.9
#: A text may well end in an ellipsis when it is shorter than this.
ELLIPSIS_LENGTH = 200
_CUT = re.compile(r"(?:\[(?:truncated|…|\.\.\.|\+\d+ chars)\]|<truncated>|\(truncated\))\s*$", re.IGNORECASE)
_ELLIPSIS = re.compile(r"(?:…|\.\.\.)$")


class Lengths(Check):
    """Lengths in letters: outliers, and signs that texts were cut."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._lengths, self._index = array("q"), array("q")
        self._ends: dict[int, str] = {}
        self._part_lengths: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
        self._longest: tuple[list[int], list[int]] = ([], [])
        self._json = 0
        self._broken = array("q")

    def see(self, row: Row) -> Iterable[Finding]:
        """Measure a row."""
        answers = (row.answer or "").split(JOINT)
        self._lengths.append(len(row.prompt) + max(map(len, answers)))
        self._index.append(row.index)
        self._see_json(row)
        for part, text in enumerate((row.prompt, row.answer or "")):
            self._see_part(part, text, row.index)
        for text in (row.answer or "", row.prompt):
            end = text.rstrip()[-40:]
            if _CUT.search(end) or (len(text) >= ELLIPSIS_LENGTH and _ELLIPSIS.search(end)):
                yield row.finding("cut_text", "warning", f"it was cut off before: … {shown(end)}", "Read the source again in full")
                return

    def _see_json(self, row: Row) -> None:
        if not row.answer or row.answer.lstrip()[:1] not in ("{", "["):
            return
        try:
            json.loads(row.answer)
            self._json += 1
        except ValueError:
            self._broken.append(row.index)

    def _see_part(self, part: int, text: str, index: int) -> None:
        """Keep the rows of the greatest length so far."""
        longest, counts = self._longest[part], self._part_lengths[part]
        greatest = max(counts, default=0)
        if len(text) < max(greatest, PILE_LENGTH):
            return
        if len(text) > greatest:
            counts.clear()
            longest.clear()
        counts[len(text)] += 1
        longest.append(index)

    def finish(self) -> Iterable[Finding]:
        """Return what stands out."""
        import numpy as np

        if not self._lengths:
            return
        lengths = np.frombuffer(self._lengths, dtype=np.int64)
        middle, high = np.percentile(lengths, (50, 95))
        for at in np.flatnonzero(lengths > max(TIMES_MEDIAN * middle, TIMES_95 * high)):
            message = f"{int(lengths[at]):,} letters, the middle row has {int(middle):,}"
            yield self.context.places.finding(self._index[at], "length_outlier", "warning", message, "Shorten it, or leave it out")
        for part, what in enumerate(("prompt", "answer")):
            rows = self._longest[part]
            if len(rows) >= max(PILE_ROWS, PILE_SHARE * len(lengths)):
                length = max(self._part_lengths[part])
                for index in rows:
                    message = f"the {what} has exactly {length:,} letters, as {len(rows) - 1:,} others have: a limit cut it"
                    yield self.context.places.finding(index, "cut_text", "warning", message, "Read the source again in full")
        if self._json >= MOSTLY_JSON * (self._json + len(self._broken)):
            for index in self._broken:
                message = "the answer begins as JSON but can't be read as it; the others can"
                yield self.context.places.finding(index, "broken_json", "warning", message, "Mend it, or leave the row out")

    def figures(self) -> Mapping[str, Any]:
        """Return lengths of rows in letters."""
        import numpy as np

        if not self._lengths:
            return {}
        middle, high, most = np.percentile(np.frombuffer(self._lengths, dtype=np.int64), (50, 99, 100))
        return {"letters_median": int(middle), "letters_99_percent": int(high), "letters_most": int(most)}
