"""What was measured of each recipe, one JSON line as soon as it is known, so that nothing is measured twice.

A line counts where its key is the same: the recipe, the model, the rows and what was asked of them. It holds what rules judge by, row by
row, so that other tolerances judge the same trial anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.artifact import naming_full_disk
from tunesmith.errors import OutputError, TunesmithError
from tunesmith.export.recipes.recipe import WeightRecipe
from tunesmith.export.scoring import Trace
from tunesmith.export.stages import StageScores

log = logging.getLogger(__name__)

TRIALS = "trials.jsonl"
#: Changes when a line means something else than before.
_FORMAT = 1


@dataclass(frozen=True)
class Trial:
    """One recipe, measured.

    Attributes:
        recipe: how the weights were rounded.
        size_bytes: of the model's files.
        scores: what the model with these weights scored.
        row_scores: the deciding metric of each row, where it has one.
        stopped: which answers ended by themselves.
        seconds: that quantizing and scoring took.
        failures: what was lost beyond the tolerances; not kept, but judged anew.
        token_ms: milliseconds a written token, where a built folder was measured on this machine.
    """

    recipe: WeightRecipe
    size_bytes: int
    scores: StageScores
    row_scores: tuple[float, ...] | None = None
    stopped: tuple[bool, ...] = ()
    seconds: float = 0.0
    failures: tuple[str, ...] = ()
    token_ms: float | None = None

    @property
    def keeps(self) -> bool:
        """Whether nothing was lost beyond the tolerances."""
        return not self.failures

    @property
    def trace(self) -> Trace:
        """What the rules judge by."""
        return Trace(scores=None if self.row_scores is None else list(self.row_scores), stopped=list(self.stopped))

    def to_dict(self) -> dict[str, Any]:
        """Return what is kept of it, as plain values."""
        return {
            "recipe": self.recipe.to_dict(),
            "size_bytes": self.size_bytes,
            "scores": self.scores.to_dict(),
            "row_scores": None if self.row_scores is None else list(self.row_scores),
            "stopped": list(self.stopped),
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Trial:
        """Read what :meth:`to_dict` wrote."""
        scores = StageScores.from_dict(values["scores"])
        if scores.num_positions and scores.max_logit_distance is None:  # JSON has no infinity
            scores = replace(scores, max_logit_distance=math.inf)
        rows = values["row_scores"]
        return cls(
            recipe=WeightRecipe.from_dict(values["recipe"]),
            size_bytes=int(values["size_bytes"]),
            scores=scores,
            row_scores=None if rows is None else tuple(float(one) for one in rows),
            stopped=tuple(bool(one) for one in values["stopped"]),
            seconds=float(values["seconds"]),
        )


def hash_values(*values: Any) -> str:
    """Return a hash of plain values."""
    return hashlib.sha256(json.dumps([_FORMAT, *values], sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()[:24]


class Records:
    """The file of trials beside a result.

    Args:
        folder: where it lies; made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / TRIALS
        self._found = dict(self._read())

    def find(self, key: str) -> Mapping[str, Any] | None:
        """Return what was written under a key, None where nothing was."""
        return self._found.get(key)

    def trial(self, key: str) -> Trial | None:
        """Return the trial of a key; None where there is none, or one that can't be understood, which is said."""
        values = self.find(key)
        if values is None:
            return None
        try:
            return Trial.from_dict(values)
        except (KeyError, TypeError, ValueError, AttributeError, TunesmithError) as error:
            log.warning("%s: the trial %s can't be understood (%s), and is measured again.", self.file, key, error)
            return None

    def add(self, key: str, values: Mapping[str, Any]) -> None:
        """Write values under a key, and wait until the disk has them; later ones count.

        Raises:
            OutputError: when they can't be written.
        """
        line = json.dumps({"key": key, **values}, ensure_ascii=False, default=str) + "\n"
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with naming_full_disk(self.file), open(self.file, "ab") as stream:
                # half a line of a program that was killed ends here
                stream.write((b"" if self._ends_whole() else b"\n") + line.encode("utf-8", errors="replace"))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise OutputError(f"{self.file} can't be written: {error.strerror or error}", fix="Check its permissions") from error
        self._found[key] = values

    def _ends_whole(self) -> bool:
        size = self.file.stat().st_size
        if not size:
            return True
        with open(self.file, "rb") as stream:
            stream.seek(size - 1)
            return stream.read(1) == b"\n"

    def _read(self) -> Sequence[tuple[str, Mapping[str, Any]]]:
        try:
            lines = self.file.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise OutputError(f"{self.file} can't be read: {error.strerror or error}", fix="Check its permissions, or remove it") from error
        found = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                values = json.loads(line.decode("utf-8"))
                found.append((str(values["key"]), values))
            except (ValueError, KeyError, TypeError, RecursionError):
                log.warning("%s: line %d can't be read and is left out: what it held is measured again.", self.file, number)
        return found
