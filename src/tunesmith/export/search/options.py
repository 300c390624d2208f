"""What a user asks of a search, and whether it can be had."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from tunesmith.errors import UsageError
from tunesmith.export.plan import BLOCK_SIZES, Request
from tunesmith.export.search.choice import Limits
from tunesmith.export.targets import PROVIDERS, provider_name

if TYPE_CHECKING:
    from tunesmith.export.source import ExportSource


@dataclass(frozen=True)
class SearchOptions:
    """What a search may take, and what has to come out.

    Attributes:
        trials: recipes to try; by default until one keeps the metric.
        max_minutes: minutes in which new ones are begun; with ``trials``, whatever ends first.
        max_size_mb: of the model's files, in 10^6 bytes: the best quality within it is wanted.
        max_latency_ms: milliseconds for each written token, on this machine.
        calibration_files: rows that calibrating methods look at.

    Raises:
        UsageError: for a number that is none.
    """

    trials: int | None = None
    max_minutes: float | None = None
    max_size_mb: float | None = None
    max_latency_ms: float | None = None
    calibration_files: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.trials is not None and self.trials < 1:
            raise UsageError(f"--trials is {self.trials}, and at least one recipe has to be tried")
        for name in ("max_minutes", "max_size_mb", "max_latency_ms"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UsageError(f"--{name} is {value:g}", fix="Give a number above 0")

    @property
    def given(self) -> tuple[str, ...]:
        """The flags that were used."""
        return tuple(f"--{item.name}" for item in fields(self) if getattr(self, item.name) is not None)

    @property
    def to_the_end(self) -> bool:
        """Whether the search goes on when a recipe keeps the metric."""
        return self.trials is not None or self.max_minutes is not None

    def limits(self, memory: int | None) -> Limits:
        """Return the limits; the files have to fit into the device's memory, too."""
        sizes = [float(memory)] if memory is not None else []
        sizes += [] if self.max_size_mb is None else [self.max_size_mb * 1e6]
        latency = math.inf if self.max_latency_ms is None else self.max_latency_ms
        return Limits(min(sizes, default=math.inf), latency, best=self.max_size_mb is not None)


def is_searched(source: ExportSource, request: Request, options: SearchOptions, *, proven: bool) -> bool:
    """Return whether recipes are searched: where ``--precision auto`` or an option of the search asks for it, and it can be done.

    Args:
        proven: whether the export is to be proven.

    Raises:
        UsageError: for options of a search that can't be made, naming why.
    """
    if request.precision != "auto" and not options.given:
        return False
    reason = _why_not(source, request, proven=proven)
    if reason is not None and options.given:
        message, fix = reason
        flags = ", ".join(options.given)
        raise UsageError(f"{flags} {'has' if len(options.given) == 1 else 'have'} no effect {message}", fix=fix)
    return reason is None


def _why_not(source: ExportSource, request: Request, *, proven: bool) -> tuple[str, str] | None:
    """Return why recipes can't be searched, and how to mend it."""
    leave = "Leave it out"
    if request.file_format == "gguf":
        return "with --format gguf: recipes are searched for ONNX", leave
    if source.kind != "decoder":
        return f"on a {source.kind} model, which is quantized by channel", leave
    if source.grid is not None:
        return "on a run that was trained on the grid that ships: it ships as it was trained", leave
    if request.precision not in (None, "auto"):
        return f"with --precision {request.precision}, which is the only one tried", "Search with --precision auto"
    if not proven:
        return "with --no-proof: recipes are told apart by scoring them", "Leave one of them out"
    if request.extra_options:
        return "with --extra_options: the search decides what the model builder writes", "Leave one of them out"
    if request.device not in (None, "cpu") or (request.provider and provider_name(request.provider) != PROVIDERS["cpu"]):
        return "on other devices: recipes are searched for the CPU", "Leave it out, or: --device cpu"
    return None


def check_block_size(block_size: int | None) -> None:
    """Refuse blocks that no kernel has.

    Raises:
        UsageError: naming those that there are.
    """
    if block_size is not None and block_size not in BLOCK_SIZES:
        raise UsageError(f"--block_size {block_size} is not possible", fix=f"Possible: {', '.join(map(str, BLOCK_SIZES))}")


def tolerance_of(min_quality: float | None, task_drop: float | None, *, usual: float) -> float:
    """Return the part of the metric that may be lost, from whichever of two options says it.

    Raises:
        UsageError: when both do, or a quality is no share.
    """
    if min_quality is None:
        return usual if task_drop is None else task_drop
    if task_drop is not None:
        raise UsageError("--min_quality and --task_drop say the same in two ways", fix="Give one of them")
    if not 0 <= min_quality <= 1:
        raise UsageError(f"--min_quality is {min_quality:g}", fix="Give the share of the metric to keep, from 0 to 1: 0.99")
    return 1 - min_quality


def to_record(options: SearchOptions) -> Mapping[str, object]:
    """Return the options that were given, as plain values."""
    return {item.name: getattr(options, item.name) for item in fields(options) if getattr(options, item.name) is not None}
