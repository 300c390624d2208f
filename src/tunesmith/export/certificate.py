"""The certificate: every stage of an export scored on the same rows, and whether anything was lost on the way."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tunesmith.errors import ExportHarm, UsageError
from tunesmith.export.evaluation_set import MOST_ROWS, EvaluationSet, evaluation_set
from tunesmith.export.judging import losses, notes
from tunesmith.export.scoring import Trace, measure
from tunesmith.export.stages import Stage, StageScores
from tunesmith.export.token_check import TokenCheck
from tunesmith.export.tolerances import Tolerances

log = logging.getLogger(__name__)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Certificate:
    """What every stage of an export scored, and whether it may ship.

    Attributes:
        stages: scores, in the order of the export.
        failures: what was lost beyond the tolerances, a sentence each; empty when nothing was.
        words: what else should be known, in sentences.
        reference: the stage that all others are compared with.
        rows: what they were scored on, in words.
        tolerances: what was allowed.
        layers: stage -> the layer that lost most, in words, where it could be found.
        accepted: whether the losses were accepted by ``--accept_loss``.
        files: name -> SHA-256 of each file that was certified.
    """

    stages: tuple[StageScores, ...]
    failures: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    reference: str = "tuned"
    rows: str = ""
    tolerances: Tolerances = field(default_factory=Tolerances)
    layers: Mapping[str, str] = field(default_factory=dict)
    accepted: bool = False
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing was lost beyond the tolerances."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Return the certificate as plain values, as the manifest keeps it under ``certificate``."""
        return {
            "passed": self.passed,
            "accepted_loss": self.accepted,
            "reference": self.reference,
            "rows": self.rows,
            "tolerances": self.tolerances.to_dict(),
            "stages": [stage.to_dict() for stage in self.stages],
            "failures": list(self.failures),
            "layers": dict(self.layers),
            "words": list(self.words),
            "files": dict(self.files),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Certificate:
        """Read what :meth:`to_dict` wrote; keys of later versions are ignored."""
        return cls(
            stages=tuple(StageScores.from_dict(stage) for stage in values.get("stages") or ()),
            failures=tuple(values.get("failures") or ()),
            words=tuple(values.get("words") or ()),
            reference=str(values.get("reference") or "tuned"),
            rows=str(values.get("rows") or ""),
            tolerances=Tolerances.from_dict(values.get("tolerances") or {}),
            layers=dict(values.get("layers") or {}),
            accepted=bool(values.get("accepted_loss")),
            files=dict(values.get("files") or {}),
        )

    def table(self) -> str:
        """Return the table of all stages, with the verdict under it, as text."""
        from tunesmith.export.certificate_table import columns_of, table_text, verdict_lines

        return "\n".join([table_text(columns_of(self)), "", *verdict_lines(self)])

    def check(self, *, accept_loss: bool = False) -> Certificate:
        """Return the certificate when the export may ship; with ``accept_loss`` also when it lost something, which is then recorded.

        Raises:
            ExportHarm: naming the stage, what was lost, by how much, and the layer where it could be found.
        """
        if self.passed:
            return self
        if accept_loss:
            log.warning("Accepted by --accept_loss: %s", "; ".join(self.failures))
            return replace(self, accepted=True)
        layers = [f"{stage}: {words}" for stage, words in self.layers.items()]
        raise ExportHarm("; ".join([*self.failures, *layers]), fix=_mend(self), table=self.table())


def _mend(certificate: Certificate) -> str:
    failed = {failure.partition(":")[0] for failure in certificate.failures}
    if failed & {stage.name for stage in certificate.stages if stage.judged == "quantized"}:
        return "A higher --precision keeps more; --accept_loss exports it as it is, and records the loss"
    return "--accept_loss exports it as it is, and records the loss"


def certify(
    stages: Sequence[Stage],
    rows: Sequence[Row] = (),
    *,
    reference: str = "tuned",
    tolerances: Tolerances | None = None,
    max_rows: int = MOST_ROWS,
) -> Certificate:
    """Score every stage on the same rows, and compare each with the reference.

    One model is in memory at a time; the reference's logits are kept in a temporary file of at most 1 GiB.

    Args:
        stages: in the order of the export; the reference among them.
        rows: held out of training, with right answers; text of the standard library where there are none.
        reference: name of the stage that the others are compared with: the tuned model in PyTorch.
        tolerances: what may be lost.
        max_rows: most rows, spread evenly over all.

    Raises:
        UsageError: when two stages have the same name, or none is the reference.
        UserError: when a stage can't be loaded or asked.
    """
    with Examination(rows, reference=reference, tolerances=tolerances, max_rows=max_rows) as examination:
        return examination.certify(stages)


@dataclass(frozen=True)
class Found:
    """What an examination found of one stage.

    Attributes:
        scores: what was measured.
        failures: what it lost beyond the tolerances, a sentence each.
        words: what else should be known.
        layer: the layer that lost most, in words; empty where none is known.
        trace: what it did, row by row.
    """

    scores: StageScores
    failures: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    layer: str = ""
    trace: Trace = field(default_factory=Trace, repr=False)


class Examination:
    """One evaluation set and one reference, for the stages of several exports of the same model.

    The reference is measured once, when it is needed first, and so is every stage that is the same in each export (``Stage.shared``): a
    second plan, or the next recipe of a search, costs the scoring of what is new in it. To be used in a ``with``: the reference's logits
    lie in a temporary file.

    Args:
        rows, reference, tolerances, max_rows: see :func:`certify`.
    """

    def __init__(
        self,
        rows: Sequence[Row] = (),
        *,
        reference: str = "tuned",
        tolerances: Tolerances | None = None,
        max_rows: int = MOST_ROWS,
    ) -> None:
        self.rows, self.reference, self.max_rows = rows, reference, max_rows
        self.tolerances = tolerances or Tolerances()
        self._standard: Standard | None = None
        self._kept: dict[str, Found] = {}

    def __enter__(self) -> Examination:
        return self

    def __exit__(self, *_: object) -> None:
        if self._standard is not None:
            self._standard.right.close()
            self._standard = None

    def certify(self, stages: Sequence[Stage]) -> Certificate:
        """Return the certificate of an export.

        Args:
            stages: in its order; the reference among them.

        Raises:
            UsageError: when two stages have the same name, or none is the reference.
            UserError: when a stage can't be loaded or asked.
        """
        names = [stage.name for stage in stages]
        if len(set(names)) < len(names) or self.reference not in names:
            raise UsageError(f"a certificate needs stages of different names, '{self.reference}' among them; found: {', '.join(names)}")
        standard = self.measure_reference(stages[names.index(self.reference)])
        found = [Found(standard.scores) if stage.name == self.reference else self.score(stage) for stage in stages]
        return Certificate(
            stages=tuple(one.scores for one in found),
            failures=tuple(text for one in found for text in one.failures),
            words=tuple(text for one in found for text in one.words),
            reference=self.reference,
            rows=standard.asked.words,
            tolerances=self.tolerances,
            layers={name: one.layer for name, one in zip(names, found, strict=True) if one.layer},
        )

    def measure_reference(self, stage: Stage) -> Standard:
        """Measure what all others are compared with, unless that was done before; returns it."""
        if self._standard is None:
            runtime = stage.load()
            asked = evaluation_set(runtime, self.rows, max_rows=self.max_rows)
            scores, right = measure(stage, runtime, asked, None)
            self._standard = Standard(asked, TokenCheck.of(runtime), scores, right)
            del runtime
            gc.collect()
        return self._standard

    def score(self, stage: Stage) -> Found:
        """Score a stage beside the reference, which is measured, and audit its weights; a shared one that is known is not scored again."""
        if stage.shared and stage.name in self._kept:
            return self._kept[stage.name]
        found = self._audited(stage, self._scored(stage))
        if stage.shared:
            self._kept[stage.name] = found
        return found

    def judge(self, scores: StageScores, trace: Trace) -> tuple[str, ...]:
        """Return what a stage lost beyond the tolerances, from what was measured of it; the reference is measured."""
        known = self._known()
        return tuple(losses(scores, trace, known.scores, known.right, known.asked, self.tolerances))

    def _known(self) -> Standard:
        if self._standard is None:
            raise RuntimeError("the reference is measured before what is compared with it")
        return self._standard

    def _scored(self, stage: Stage) -> Found:
        known, runtime = self._known(), stage.load()
        scores, trace = measure(stage, runtime, known.asked, known.right, same_within=self.tolerances.merged_logits)
        failures = list(self.judge(scores, trace))
        if stage.kind != "shown":
            differences = known.tokens.compare(runtime, stage.files)
            scores = replace(scores, tokens_differ=differences.num_prompts)
            failures += [f"{stage.name}: {text}" for text in differences.sentences]
        words = [*notes(scores, trace, known.scores, known.right, known.asked, self.tolerances)]
        words += [f"{stage.name}: {text}." for text in scores.words]
        del runtime
        gc.collect()
        return Found(scores, tuple(failures), tuple(words), trace=trace)

    def _audited(self, stage: Stage, found: Found) -> Found:
        """Look at the weights: what must be equal is compared in any case, what was rounded when something was lost."""
        if stage.audit is None or stage.kind == "shown":
            return found
        audit = stage.audit()
        if sentence := audit.failure(stage.kind):
            found = replace(found, failures=(*found.failures, f"{stage.name}: {sentence}"))
        return replace(found, layer=audit.blame()) if found.failures else found


@dataclass(frozen=True)
class Standard:
    """What was measured of the reference.

    Attributes:
        asked: the evaluation set.
        tokens: what it makes of the check prompts.
        scores, right: what it scored, and what it did row by row.
    """

    asked: EvaluationSet
    tokens: TokenCheck
    scores: StageScores
    right: Trace
