"""The stages of an export, and what is measured of each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.export.tolerances import Judged

if TYPE_CHECKING:
    from tunesmith.export.weights import Audit
    from tunesmith.runtime.protocol import Runtime

#: How stages are judged by their names, where nothing else is said.
JUDGED: Mapping[str, Judged] = {
    "base": "shown",
    "tuned": "shown",
    "merged": "exact",
    "onnx-fp32": "float",
    "quantized": "quantized",
    "gguf": "quantized",
}


@dataclass(frozen=True)
class Stage:
    """One stage of an export.

    Attributes:
        name: ``base``, ``tuned``, ``merged``, ``onnx-fp32``, ``quantized``, ``gguf``, or one of your own with ``judged`` said.
        load: makes its runtime; called when its turn comes, so that no more models are in memory than need be.
        judged: by which tolerance; by default by its name (see `JUDGED`), ``quantized`` for other names.
        files: the folder or file that holds it, for its size and for the checks of what lies in it; None for a model in memory.
        audit: compares its weights with the tuned model's, layer by layer; None where they can't be compared.
        shared: whether it is the same model in every export of a source, so that it is scored once for all of them.
    """

    name: str
    load: Callable[[], Runtime]
    judged: Judged | None = None
    files: Path | None = None
    audit: Callable[[], Audit] | None = None
    shared: bool = False

    @property
    def kind(self) -> Judged:
        """How it is judged."""
        return self.judged or JUDGED.get(self.name, "quantized")


@dataclass(frozen=True)
class StageScores:
    """What was measured of a stage, on the same rows as every other.

    Attributes:
        name: of the stage.
        judged: by which tolerance.
        max_logit_distance, mean_logit_distance: to the reference, over all compared positions and the whole vocabulary. Of an
            encoder-decoder: of the log-probability a token of right answers; of embeddings: of cosines.
        kl: mean divergence from the reference, in nats a position.
        top1_agreement: share of the positions of answers with the same likeliest token; of a head, share of the same labels.
        top1_everywhere: the same over the prompts' positions too.
        perplexity: of the right answers; of text, where there are no answers.
        greedy_equal: share of greedy answers that are the reference's, letter by letter.
        metrics: the task's metrics, from ``tunesmith.evaluate``.
        stopped: share of greedy answers that ended by themselves.
        size_mb: of the files, in 10^6 bytes; of a model in memory, of its weights.
        tokens_differ: of the prompts that are tokenized in every runtime, how many give other ids than the reference's.
        num_positions: positions compared.
        compared: what a position chooses: a ``token``, or a head's ``label``.
        words: what else should be known.
    """

    name: str
    judged: Judged
    max_logit_distance: float | None = None
    mean_logit_distance: float | None = None
    kl: float | None = None
    top1_agreement: float | None = None
    top1_everywhere: float | None = None
    perplexity: float | None = None
    greedy_equal: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    stopped: float | None = None
    size_mb: float | None = None
    tokens_differ: int = 0
    num_positions: int = 0
    compared: str = "token"
    words: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as plain values; numbers that are not finite as None."""
        values = {item.name: _plain(getattr(self, item.name)) for item in fields(self)}
        return {**values, "words": list(self.words)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StageScores:
        """Read what :meth:`to_dict` wrote; keys of later versions are ignored."""
        known = {item.name: values[item.name] for item in dataclasses.fields(cls) if item.name in values}
        known["words"] = tuple(known.get("words") or ())
        return cls(**known)


def size_mb(stage: Stage, runtime: Runtime) -> float | None:
    """Return the megabytes of a stage's model files, or of its weights in memory; None where neither can be seen."""
    from tunesmith.artifact import WEIGHT_SUFFIXES, model_files
    from tunesmith.evaluate.speed import model_size

    if stage.files is not None:
        files = [stage.files] if stage.files.is_file() else [file for file in model_files(stage.files) if file.suffix in WEIGHT_SUFFIXES]
        return sum(file.stat().st_size for file in files) / 1e6
    size = model_size(runtime).get("size_bytes")
    return None if size is None else size / 1e6


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
