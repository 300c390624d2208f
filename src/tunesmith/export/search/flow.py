"""The search: recipes are tried in PyTorch until one keeps the metric or the budget is spent, and the best is written and certified."""

from __future__ import annotations

import logging
import math
import platform
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunesmith.artifact import check_output_folder, new_folder
from tunesmith.errors import ExportHarm, ModelError
from tunesmith.export.certificate import Certificate, Examination
from tunesmith.export.codes_audit import audit_codes
from tunesmith.export.decoder import MODEL_FILE
from tunesmith.export.folder import model_sizes, write_extras
from tunesmith.export.proof import prove_stage, stages_before
from tunesmith.export.recipes.blocks import BlockFormat
from tunesmith.export.recipes.recipe import QuantizedWeights, WeightRecipe
from tunesmith.export.result import Optimized
from tunesmith.export.search.built import Workshop, plan_of
from tunesmith.export.search.calibration_rows import calibration_rows
from tunesmith.export.search.candidates import CALIBRATED, Candidate, hopeless, mixed_candidates, next_candidate, plain_candidates
from tunesmith.export.search.choice import Limits, Quality, nearest_words, pareto_front, ranked
from tunesmith.export.search.options import SearchOptions
from tunesmith.export.search.records import Records, Trial, hash_values
from tunesmith.export.search.result import SearchResult
from tunesmith.export.search.trials import STAGE, Laboratory
from tunesmith.export.source import ExportSource, float_model
from tunesmith.export.stages import Stage
from tunesmith.hardware import detect
from tunesmith.runtime.load import load

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Searched:
    """What a search came to.

    Attributes:
        made: the folder that ships; None where no recipe lost little enough.
        result: all that was tried.
        words: sentences for people.
    """

    made: Optimized | None
    result: SearchResult
    words: tuple[str, ...] = ()


def search(
    source: ExportSource,
    final: Path,
    options: SearchOptions,
    limits: Limits,
    examination: Examination,
    *,
    block_size: int | None = None,
    accept_loss: bool = False,
    overwrite: bool = False,
) -> Searched:
    """Try recipes, and write the best as ONNX, certified.

    Args:
        source: a decoder, tuned in floating point.
        final: the folder to write; trials are kept beside it, in a folder with ``-search`` behind its name.
        options: the budget.
        limits: what a recipe has to keep to.
        examination: rows and tolerances.
        block_size: the only one to try.
        accept_loss: take the best within the limits where nothing loses little enough.
        overwrite: replace an earlier result.

    Raises:
        ExportHarm: when nothing keeps to the limits; it names the nearest.
        UserError: when the model, rows or records can't be read.
        KeyboardInterrupt: saying how to go on.
    """
    kept = final.with_name(f"{final.name}-search")
    check_output_folder(kept, resume=True)
    calibration = calibration_rows(source, options.calibration_files, examination.rows)
    laboratory = Laboratory(source, examination, Records(kept), calibration)
    try:
        standard = examination.measure_reference(_reference(source, examination))
        quality = Quality.of(standard.scores, standard.asked, examination.tolerances)
        with Workshop(laboratory, kept) as workshop:
            run = _Search(laboratory, workshop, quality, limits, options, block_size)
            run.try_recipes()
            return _Shipping(run, final, accept_loss=accept_loss, overwrite=overwrite).ship()
    except KeyboardInterrupt:
        if not laboratory.records.file.is_file():
            raise
        what = f"interrupted; what was measured is kept in {laboratory.records.file}"
        raise KeyboardInterrupt(f"{what}: the same command goes on from there") from None


def _reference(source: ExportSource, examination: Examination) -> Stage:
    """The tuned model; which recipe is tried makes no difference to it."""
    plan = plan_of(WeightRecipe("rtn", BlockFormat(4, 32, symmetric=True)))
    return next(stage for stage in stages_before(source, plan) if stage.name == examination.reference)


@dataclass
class _Search:
    """What comes together while recipes are tried."""

    laboratory: Laboratory
    workshop: Workshop
    quality: Quality
    limits: Limits
    options: SearchOptions
    block_size: int | None
    trials: list[Trial] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    _pending: list[Candidate] = field(default_factory=list)
    _widened: bool = False
    _started: float = field(default_factory=time.monotonic)

    def try_recipes(self) -> None:
        """Measure recipes until one is taken, the budget is spent, or none is left."""
        self._pending = plain_candidates(self.laboratory.size, self.block_size)
        while not self._is_spent() and (candidate := self._next()) is not None:
            self._pending.remove(candidate)
            if (better := hopeless(candidate, self.trials, self.quality)) is not None:
                self.words.append(f"Not tried: {candidate.recipe.name}, since {better.recipe.name} lost too much already.")
                continue
            self._measure(candidate)
            if not self.options.to_the_end and any(trial.keeps and self.limits.fits(trial) for trial in self.trials):
                self.measure_speed()
                if self.acceptable():
                    return
        self.measure_speed()

    def acceptable(self) -> list[Trial]:
        """Return the recipes that may be taken, the best choice first."""
        known = [trial for trial in self.trials if trial.token_ms is not None or math.isinf(self.limits.max_token_ms)]
        return ranked(known, self.quality, self.limits)

    def measure_speed(self) -> None:
        """Where a latency is asked for, measure what may be taken and no other beats, as built folders on this machine."""
        if math.isinf(self.limits.max_token_ms):
            return
        front = pareto_front([trial for trial in self.trials if trial.keeps and trial.size_bytes <= self.limits.max_bytes], self.quality)
        missing = [trial for trial in front if trial.token_ms is None]
        found = {trial.recipe.key(): self._known_speed(trial) for trial in missing}
        if fresh := [trial for trial in missing if found[trial.recipe.key()] is None]:
            for trial, token_ms in zip(fresh, self.workshop.token_ms([one.recipe for one in fresh]), strict=True):
                self.laboratory.records.add(self._speed_key(trial), {"recipe": trial.recipe.to_dict(), "token_ms": token_ms})
                found[trial.recipe.key()] = token_ms
        self.trials = [replace(trial, token_ms=found.get(trial.recipe.key(), trial.token_ms)) for trial in self.trials]

    def _known_speed(self, trial: Trial) -> float | None:
        values = self.laboratory.records.find(self._speed_key(trial)) or {}
        found = values.get("token_ms")
        return float(found) if isinstance(found, (int, float)) else None

    def _speed_key(self, trial: Trial) -> str:
        machine = (platform.node(), platform.machine(), detect().cores)
        return hash_values("speed", machine, self.laboratory.key(trial.recipe))

    def _measure(self, candidate: Candidate) -> None:
        recipe = candidate.recipe
        log.info("Trying %s (%.1f MB) …", recipe.name, candidate.size_bytes / 1e6)
        try:
            trial = self.laboratory.measure(recipe)
        except ModelError as error:
            if recipe.method == "rtn":
                raise
            self.words.append(f"{recipe.method} is not tried: {error}")
            self._pending = [one for one in self._pending if one.recipe.method != recipe.method]
            return
        verdict = "keeps the metric" if trial.keeps else "loses too much"
        log.info("%s: %s %s, %s.", recipe.name, self.quality.heading, self.quality.words(trial.scores), verdict)
        self.trials.append(trial)

    def _next(self) -> Candidate | None:
        """Return the next recipe; sensitive layers are looked for when recipes that treat all layers alike don't do."""
        found = next_candidate(self._pending, self.trials, self.limits, all_of_them=self.options.to_the_end)
        eight = found is not None and found.recipe.format.bits == 8
        if self._widened or (found is not None and eight == self.limits.best):
            return found
        self._widened = True
        smallest = min((one.size_bytes for one in self._pending), default=0)
        if smallest > self.limits.max_bytes:
            return found
        laboratory = self.laboratory
        self._pending += mixed_candidates(laboratory.size, laboratory.sensitive_parts(), self.block_size)
        return next_candidate(self._pending, self.trials, self.limits, all_of_them=self.options.to_the_end)

    def _is_spent(self) -> bool:
        options = self.options
        if options.trials is not None and len(self.trials) >= options.trials:
            return True
        minutes = (time.monotonic() - self._started) / 60
        return bool(self.trials) and options.max_minutes is not None and minutes >= options.max_minutes


@dataclass
class _Shipping:
    """From trials to the folder that ships."""

    run: _Search
    final: Path
    accept_loss: bool
    overwrite: bool

    def ship(self) -> Searched:
        """Write and certify the best choice, the next when that lost something after all; raises when limits leave nothing."""
        run = self.run
        choices = run.acceptable()
        if not choices and self.accept_loss:
            choices = ranked(run.trials, run.quality, run.limits, lossy=True)[:1]
        said: list[str] = []
        for trial in choices:
            try:
                made, result = self._made(trial)
            except _Lost as lost:
                if not any(text.startswith(f"{STAGE}: ") for text in lost.certificate.failures):
                    lost.certificate.check()  # what is wrong before anything is rounded, no other recipe mends
                said.append(f"{trial.recipe.name} kept the metric in PyTorch, but not as ONNX: {lost.certificate.failures[0]}.")
                log.warning("%s", said[-1])
                continue
            return Searched(made, result, tuple(said))
        result = self._result(None)
        if run.limits != Limits():
            raise ExportHarm(self._nothing(), fix="Allow more, or --accept_loss", table=result.table())
        return Searched(None, result, (*said, "No recipe that was tried loses little enough."))

    def _nothing(self) -> str:
        run = self.run
        if not run.trials:
            smallest = min(plain_candidates(run.laboratory.size, run.block_size), key=lambda one: one.size_bytes)
            asked = f"{run.limits.max_bytes / 1e6:.1f} MB"
            return f"no recipe fits into {asked}: the smallest is {smallest.recipe.name} with {smallest.size_bytes / 1e6:.1f} MB"
        return f"no recipe that was tried keeps the metric within the limits; {nearest_words(run.trials, run.quality, run.limits)}"

    def _made(self, trial: Trial) -> tuple[Optimized, SearchResult]:
        source, plan, started = self.run.laboratory.source, plan_of(trial.recipe), time.monotonic()
        name, result = self.final.resolve().name, self._result(trial)
        with new_folder(self.final, overwrite=self.overwrite) as folder:
            log.info("Writing %s.", trial.recipe.name)
            weights = self.run.workshop.build(trial.recipe, folder)
            seconds = time.monotonic() - started
            write_extras(source, folder, plan, name=name, search=result.to_dict())
            certificate = self._certified(folder, trial, weights)
            write_extras(source, folder, plan, name=name, certificate=certificate.to_dict(), search=result.to_dict())
            size = sum(model_sizes(folder).values())
        words = (f"{trial.recipe.name} for {plan.target.provider}: {size / 1e6:.1f} MB, built in {seconds:.0f} s.",)
        return Optimized(self.final, plan.target, size, seconds, certificate, words, result), result

    def _certified(self, folder: Path, trial: Trial, weights: QuantizedWeights) -> Certificate:
        run, plan = self.run, plan_of(trial.recipe)
        source, file = run.laboratory.source, folder / MODEL_FILE
        stage = Stage(STAGE, lambda: load(folder), files=folder, audit=lambda: audit_codes(file, lambda: float_model(source), weights))
        run.laboratory.release()
        log.info("Scoring every stage of the export on the same rows.")
        certificate = prove_stage(source, folder, plan, run.laboratory.examination, stage)
        try:
            return certificate.check(accept_loss=self.accept_loss)
        except ExportHarm as error:
            raise _Lost(certificate) from error

    def _result(self, chosen: Trial | None) -> SearchResult:
        run = self.run
        looked = any(trial.recipe.method in CALIBRATED or trial.recipe.higher for trial in run.trials)
        rows = run.laboratory.calibration.words if looked else ""
        return SearchResult.of(run.trials, run.quality, chosen, calibrated_on=rows, words=run.words)


class _Lost(Exception):
    """Leaves the folder of a recipe that lost too much as ONNX, so that it is removed."""

    def __init__(self, certificate: Certificate) -> None:
        super().__init__()
        self.certificate = certificate
