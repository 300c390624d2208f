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
    tolerances = tolerances or Tolerances()
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names) or reference not in names:
        raise UsageError(f"a certificate needs stages of different names, '{reference}' among them; found: {', '.join(names)}")
    first = stages[names.index(reference)]
    runtime = first.load()
    asked = evaluation_set(runtime, rows, max_rows=max_rows)
    tokens = TokenCheck.of(runtime)
    scores, right = measure(first, runtime, asked, None)
    scored: dict[str, StageScores] = {reference: scores}
    del runtime
    gc.collect()
    try:
        run = _Run(asked, tokens, scores, right, tolerances)
        for stage in stages:
            if stage.name != reference:
                scored[stage.name] = run.score(stage)
    finally:
        right.close()
    return Certificate(
        stages=tuple(scored[name] for name in names),
        failures=tuple(run.failures),
        words=tuple(run.words),
        reference=reference,
        rows=asked.words,
        tolerances=tolerances,
        layers=run.layers,
    )


@dataclass
class _Run:
    """What comes together while the stages are scored."""

    asked: EvaluationSet
    tokens: TokenCheck
    reference: StageScores
    right: Trace
    tolerances: Tolerances
    failures: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    layers: dict[str, str] = field(default_factory=dict)

    def score(self, stage: Stage) -> StageScores:
        """Score a stage, and keep what it lost."""
        found: list[str] = []
        scores = self._run(stage, found)
        self._audit(stage, found)
        self.failures += found
        return scores

    def _run(self, stage: Stage, found: list[str]) -> StageScores:
        runtime = stage.load()
        scores, trace = measure(stage, runtime, self.asked, self.right, same_within=self.tolerances.merged_logits)
        found += losses(scores, trace, self.reference, self.right, self.asked, self.tolerances)
        if stage.kind != "shown":
            differences = self.tokens.compare(runtime, stage.files)
            scores = replace(scores, tokens_differ=differences.num_prompts)
            found += [f"{stage.name}: {text}" for text in differences.sentences]
        self.words += notes(scores, trace, self.reference, self.right, self.asked, self.tolerances)
        self.words += [f"{stage.name}: {text}." for text in scores.words]
        del runtime
        gc.collect()
        return scores

    def _audit(self, stage: Stage, found: list[str]) -> None:
        """Look at the weights: what must be equal is compared in any case, what was rounded when something was lost."""
        if stage.audit is None or stage.kind == "shown":
            return
        audit = stage.audit()
        if sentence := audit.failure(stage.kind):
            found.append(f"{stage.name}: {sentence}")
        if found and (words := audit.blame()):
            self.layers[stage.name] = words
