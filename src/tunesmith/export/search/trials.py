"""Recipes on the float model in PyTorch: quantized, scored beside the tuned model, and kept in a file as soon as they are."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tunesmith import __version__
from tunesmith.artifact import hash_file, hash_folder
from tunesmith.export.certificate import Examination
from tunesmith.export.recipes.blocks import BlockFormat
from tunesmith.export.recipes.calibration import Activations, collect
from tunesmith.export.recipes.recipe import QuantizedWeights, WeightRecipe, head_name, quantize, quantized_values, size_bytes
from tunesmith.export.recipes.sensitivity import measure_sensitivity
from tunesmith.export.search.calibration_rows import CalibrationRows
from tunesmith.export.search.candidates import CALIBRATED
from tunesmith.export.search.records import Records, Trial, hash_values
from tunesmith.export.source import ExportSource, float_model
from tunesmith.export.stages import Stage
from tunesmith.runtime.load import runtime_around

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

#: What the stage of a recipe is called in its losses.
STAGE = "quantized"


@dataclass
class Laboratory:
    """One model, and all that recipes are tried on.

    Attributes:
        source: what is exported.
        examination: the rows and the reference, which is measured.
        records: what was measured before.
        calibration: the rows that recipes look at.
        num_measured: trials that were measured here, not read.
    """

    source: ExportSource
    examination: Examination
    records: Records
    calibration: CalibrationRows
    num_measured: int = field(default=0, init=False)
    _last: tuple[WeightRecipe, QuantizedWeights] | None = field(default=None, init=False, repr=False)

    @cached_property
    def model(self) -> nn.Module:
        """The model in float32, its adapter merged; loaded when it is needed."""
        return float_model(self.source)

    def release(self) -> None:
        """Give the model's memory back; it is loaded again when it is needed."""
        self.__dict__.pop("model", None)
        self.__dict__.pop("activations", None)
        gc.collect()

    @cached_property
    def activations(self) -> Activations:
        """What the model's layers take in; computed when the first recipe asks."""
        log.info("Looking at what the layers take in on %s …", self.calibration.words)
        return collect(self.model, self.calibration.ids)

    def size(self, recipe: WeightRecipe) -> int:
        """Return the bytes that a recipe's files take."""
        return size_bytes(self.model, recipe)

    def weights(self, recipe: WeightRecipe) -> QuantizedWeights:
        """Return the model's matrices, rounded by a recipe; those of the last one are at hand, for what ships is often what was tried last.

        Raises:
            ModelError: for a recipe that this architecture has no way for.
        """
        if self._last is None or self._last[0] != recipe:
            self._last = None  # not two of them at once
            self._last = recipe, quantize(self.model, recipe, self.activations if recipe.method in CALIBRATED else None)
        return self._last[1]

    def sensitive_parts(self) -> list[str]:
        """Return the attentions and feed-forwards, those first that win most for each byte when they keep 8 bits."""
        key = hash_values("sensitivity", self._model_key, self.calibration.ids)
        known = self.records.find(key)
        if known is None or not isinstance(known.get("parts"), list):
            log.info("Looking for the layers that lose most on %s …", self.calibration.words)
            costs = measure_sensitivity(self.model, self.calibration.ids, BlockFormat(4, 32, symmetric=False))
            inside = [one for one in costs if one.name != head_name(self.model)]
            ordered = sorted(inside, key=lambda one: -one.kl / one.num_weights)
            known = {"parts": [one.name for one in ordered], "kl": {one.name: one.kl for one in costs}}
            self.records.add(key, known)
        return [str(name) for name in known["parts"]]

    def measure(self, recipe: WeightRecipe) -> Trial:
        """Return what a recipe scores, from the records where it was measured before.

        Raises:
            ModelError: for a recipe that this architecture has no way for.
            OutputError: when it can't be written down.
        """
        known = self.records.trial(self.key(recipe))
        if known is None:
            known = self._measured(recipe)
            self.num_measured += 1
            self.records.add(self.key(recipe), known.to_dict())
        return replace(known, failures=self.examination.judge(known.scores, known.trace))

    def key(self, recipe: WeightRecipe) -> str:
        """Return the key of a trial: another recipe, model or calibration, or other rows to score on have another one."""
        seen = self.calibration.ids if recipe.method in CALIBRATED else ()  # which parts are sensitive, the recipe says itself
        return hash_values(self._model_key, self._rows_key, recipe.key(), seen)

    def _measured(self, recipe: WeightRecipe) -> Trial:
        started = time.monotonic()
        weights, size = self.weights(recipe), self.size(recipe)
        with quantized_values(self.model, weights) as model:
            runtime = runtime_around(model, self.source.tokenizer, self.source.template, self.source.task)
            found = self.examination.score(Stage(STAGE, lambda: runtime))
        trace = found.trace
        return Trial(
            recipe=recipe,
            size_bytes=size,
            scores=replace(found.scores, size_mb=size / 1e6),
            row_scores=None if trace.scores is None else tuple(trace.scores),
            stopped=tuple(trace.stopped),
            seconds=time.monotonic() - started,
        )

    @cached_property
    def _model_key(self) -> str:
        base = self.source.places.base
        content = hash_file(base.path) if base.kind == "gguf" else hash_folder(base.folder)
        task = self.source.task
        return hash_values(__version__, content, self.source.parent_hash, self.source.template.to_dict(), task)

    @cached_property
    def _rows_key(self) -> str:
        rows: Sequence[Mapping[str, Any]] = self.examination.rows
        return hash_values(rows, self.examination.max_rows)
