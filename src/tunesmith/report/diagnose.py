"""Why a result is poor: the usual causes one by one, with evidence from the run's own files, and the one command to try next.

The order is that in which causes are worth looking at: data, template and tokenization, learning rate and duration, overfitting, rank,
base model. Thresholds are rules of thumb; each finding says what it saw, so that a reader can judge for himself.
"""

from __future__ import annotations

import itertools
import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith.report.run_files import RunFiles

Level = Literal["good", "unsure", "likely"]

#: Rows of one label below which a label is hardly learnt, and rows in all below which a verdict shows little.
FEW_ROWS_PER_LABEL, FEW_HELD_OUT = 10, 30
#: The validation loss fell by less than this share: it hardly learnt.
HARDLY = 0.05
#: The validation loss rose by this share above its lowest point: it overfits.
OVERFIT = 0.05
#: The training loss still falls by this share over its last quarter: it was stopped early.
STILL_FALLING = 0.1


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was seen, and whether it may be the cause.

    Attributes:
        topic: data, template, learning rate and duration, overfitting, rank, base model.
        level: ``good``, ``unsure`` (can't be told from the files), ``likely`` (a likely cause).
        evidence: what the files say.
        change: options to try, name -> value; empty where there is nothing to change by an option.
        command: a command that is no fine-tuning, where that is the next thing to do.
    """

    topic: str
    level: Level
    evidence: str
    change: tuple[tuple[str, str], ...] = ()
    command: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings of a run, the summary in a sentence and the one recommended command."""

    findings: tuple[Finding, ...]
    summary: str
    command: str


def diagnose(run: RunFiles) -> Diagnosis:
    """Walk through the usual causes of poor results."""
    looks: tuple[Callable[[RunFiles], Iterator[Finding]], ...] = (_data, _template, _learning, _overfitting, _rank, _base_model)
    findings = tuple(finding for look in looks for finding in look(run))
    first = next((finding for finding in findings if finding.level == "likely" and (finding.change or finding.command)), None)
    if first is not None:
        return Diagnosis(findings, f"Most likely: {first.topic}. {first.evidence}", first.command or again(run, first.change))
    if run.verdict is None:
        return Diagnosis(findings, "Nothing stands out, but nothing was compared with the base model either.", again(run, _HOLD_OUT))
    if run.verdict.outcome == "gain":
        return Diagnosis(
            findings, "Nothing stands out: the run gained over its base.", f'tunesmith generate -m {shlex.quote(str(run.folder))} "…"'
        )
    longer = (("num_train_epochs", f"{2 * _epochs(run):.3g}"),)
    return Diagnosis(findings, "Nothing stands out. Longer training is the cheapest thing to try.", again(run, longer))


_HOLD_OUT = (("validation_fraction", "0.1"),)


def again(run: RunFiles, change: Sequence[tuple[str, str]]) -> str:
    """Return the command of this run with some options changed, into another folder."""
    given = {name: entry["value"] for name, entry in run.manifest.options.items() if _was_given(name, entry)}
    given.pop("max_steps" if any(name == "num_train_epochs" for name, _ in change) else "", None)
    options = {**given, **dict(change), "output_path": f"{run.folder}-2"}
    return "tunesmith finetune " + " ".join(f"--{name} {_spelt(value)}" for name, value in options.items())


def _was_given(name: str, entry: Mapping[str, Any]) -> bool:
    return entry.get("source") not in ("default", "chosen", None) and name not in ("output_path", "overwrite", "resume", "show_examples")


def _spelt(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return " ".join(shlex.quote(f"{key}={part}") for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return shlex.quote(",".join(map(str, value)))
    return f"{value:g}" if isinstance(value, float) else shlex.quote(str(value))


# The causes


def _data(run: RunFiles) -> Iterator[Finding]:
    """Too few rows, labels that nothing can tell apart, rows that don't fit."""
    found = list(_data_trouble(run))
    yield from found
    if not found:
        yield Finding("data", "good", f"{run.num_held_out:,} rows were held out; nothing in the run's files speaks against the data.")


def _data_trouble(run: RunFiles) -> Iterator[Finding]:
    check = _look_at_data(run, "check")
    if not run.num_held_out:
        yield Finding("data", "likely", "No rows were held out, so nobody can tell what it learnt.", change=_HOLD_OUT)
    elif run.num_held_out < FEW_HELD_OUT:
        evidence = f"Only {run.num_held_out} rows were held out: gains below a third of the rows can't be seen with so few."
        yield Finding("data", "unsure", evidence, change=(("validation_fraction", "0.2"),))
    labels = (
        Counter(row.references[0] for row in run.answered if row.references) if run.task.name == "text-classification" else Counter[str]()
    )
    if labels and max(labels.values()) >= 10 * min(labels.values()) and len(labels) > 1:
        (most, many), (least, few) = labels.most_common()[0], labels.most_common()[-1]
        yield Finding("data", "unsure", f"Labels are out of balance: {many} held-out rows are '{most}', {few} '{least}'.", command=check)
    if _learnt_by_heart(run):
        evidence = (
            "The training loss fell while the validation loss did not, and no gain is shown: labels may be wrong, or not to be told from "
            "the texts (the same input with different answers, shuffled columns)."
        )
        yield Finding("data", "likely", evidence, command=check)
    if run.num_dropped or run.num_cut:
        evidence = f"{run.num_cut:,} training rows were cut and {run.num_dropped:,} left out because they are too long (cut_rows.jsonl)."
        longest = run.option("max_seq_len")
        change = (("max_seq_len", str(2 * longest)),) if isinstance(longest, int) else ()
        yield Finding("data", "likely" if run.num_dropped + run.num_cut > 20 else "unsure", evidence, change=change)


def _learnt_by_heart(run: RunFiles) -> bool:
    train, validation = run.series("loss"), _validation(run)
    if len(train) < 2 or len(validation) < 2 or run.verdict is None or run.verdict.outcome == "gain":
        return False
    return train[-1][1] < 0.7 * train[0][1] and validation[-1][1] > validation[0][1] * (1 - HARDLY)


def _template(run: RunFiles) -> Iterator[Finding]:
    """Whether answers end, are known labels, and are what the template asks for."""
    answered = run.answered
    if not answered:
        yield Finding("template and tokenization", "unsure", "No answers of the tuned model are kept.")
        return
    unfinished = sum(not row.stopped for row in answered) / len(answered)
    empty = sum(not row.tuned.strip() for row in answered) / len(answered)
    echoed = sum(bool(row.input.strip()) and row.tuned.strip().startswith(row.input.strip()[:60]) for row in answered) / len(answered)
    for share, what, why in (
        (
            unfinished,
            "don't end by themselves",
            "the end-of-answer token was perhaps not learnt, or answers are longer than every reference",
        ),
        (empty, "are empty", "the model ends at once: look at where the template puts the answer"),
        (echoed, "repeat the prompt", "the prompt may be part of what is learnt"),
    ):
        if share > 0.1:
            evidence = f"{share:.0%} of the tuned model's answers {what}: {why}."
            yield Finding("template and tokenization", "likely", evidence, command=_look_at_data(run, "preview"))
    if max(unfinished, empty, echoed) <= 0.1:
        stop = " or ".join(map(repr, run.manifest.stop_tokens)) or "the end of the text"
        yield Finding("template and tokenization", "good", f"{1 - unfinished:.0%} of the answers end by themselves, with {stop}.")


def _learning(run: RunFiles) -> Iterator[Finding]:
    """Whether the learning rate was too low or too high, and the training too short."""
    topic, train, validation = "learning rate and duration", run.series("loss"), _validation(run)
    rate = run.option("learning_rate")
    if len(train) < 2:
        yield Finding(
            topic,
            "unsure",
            f"Too few losses were logged ({len(train)}) to judge by.",
            change=(("num_train_epochs", f"{2 * _epochs(run):.3g}"),),
        )
        return
    first, last = train[0][1], train[-1][1]
    norms = [value for _, value in run.series("grad_norm")]
    if not math.isfinite(last) or last > first * 1.05 or _jumps(train):
        evidence = (
            f"The training loss is unsteady ({first:.3g} at first, {last:.3g} at last, gradient norms up to {max(norms, default=0):.3g})."
        )
        yield Finding(topic, "likely", evidence, change=_scaled(rate, 0.3))
        return
    if validation and validation[-1][1] > validation[0][1] * (1 - HARDLY) and last > first * 0.8:
        moved = f"training loss {first:.3g} to {last:.3g}, validation loss {validation[0][1]:.3g} to {validation[-1][1]:.3g}"
        yield Finding(topic, "likely", f"Neither loss moved much ({moved}).", change=_scaled(rate, 3))
        return
    quarter = train[-max(2, len(train) // 4)][1]
    lowest_last = not validation or validation[-1][1] <= min(loss for _, loss in validation) * 1.001
    if quarter - last > STILL_FALLING * quarter and lowest_last and last > 0.05:
        evidence = f"The losses were still falling when training ended (training loss {quarter:.3g} to {last:.3g} over the last quarter)."
        yield Finding(topic, "likely", evidence, change=(("num_train_epochs", f"{2 * _epochs(run):.3g}"),))
        return
    yield Finding(topic, "good", f"The training loss fell from {first:.3g} to {last:.3g} and had levelled out.")


def _overfitting(run: RunFiles) -> Iterator[Finding]:
    """Whether the validation loss rose again after its lowest point."""
    validation = _validation(run)[1:]  # the first is the untouched model
    if len(validation) < 2:
        yield Finding(
            "overfitting", "unsure", f"{len(validation)} evaluations while training are too few to see it.", change=(("eval_steps", "10"),)
        )
        return
    step, lowest = min(validation, key=lambda point: point[1])
    last_step, last = validation[-1]
    if last > lowest * (1 + OVERFIT) and step < last_step:
        evidence = f"The validation loss was lowest at step {step:g} ({lowest:.3g}) and rose to {last:.3g}; the best weights were kept."
        early = step <= last_step / 2
        change = (
            (("num_train_epochs", f"{max(1.0, round(_epochs(run) / 2)):g}"), ("lora_dropout", "0.1"))
            if _is_lora(run)
            else _scaled(run.option("learning_rate"), 0.3)
        )
        yield Finding("overfitting", "likely" if early else "unsure", evidence, change=change)
        return
    yield Finding("overfitting", "good", f"The validation loss ends at {last:.3g}, near its lowest ({lowest:.3g} at step {step:g}).")


def _rank(run: RunFiles) -> Iterator[Finding]:
    """Whether the adapter is too small for what it has to learn."""
    if not _is_lora(run):
        yield Finding("rank", "good", f"The method {run.manifest.method} has no rank.")
        return
    rank, train = run.option("lora_r") or 16, run.series("loss")
    stuck = len(train) > 3 and train[-1][1] > 0.5 * train[0][1] and train[-1][1] > 0.3
    if stuck and int(rank) < 64:
        evidence = f"The training loss levels out at {train[-1][1]:.3g} with rank {rank}: the adapter may be too small."
        yield Finding("rank", "likely", evidence, change=(("lora_r", str(4 * int(rank))), ("lora_alpha", str(8 * int(rank)))))
        return
    yield Finding("rank", "good", f"Rank {rank}; the training loss shows no want of room.")


def _base_model(run: RunFiles) -> Iterator[Finding]:
    """Whether another base would do, or none is needed."""
    found = run.verdict
    if found is None:
        yield Finding("base model", "unsure", "Without a verdict nothing is known about the base.")
        return
    best = max(found.baselines.items(), key=lambda item: item[1], default=None)
    if best is not None and best[1] >= found.tuned and found.outcome != "gain":
        yield Finding(
            "base model",
            "likely",
            f"What costs nothing ({best[0].replace('_', ' ')}) does as well or better: {best[1]:.3g} against {found.tuned:.3g}.",
        )
        return
    forgotten = (found.forgetting or {}).get("ratio")
    if isinstance(forgotten, (int, float)) and forgotten > 1.5:
        evidence = f"General text became {forgotten:.1f} times as perplexing: the base's own knowledge is being overwritten."
        yield Finding("base model", "unsure", evidence, change=_scaled(run.option("learning_rate"), 0.3))
        return
    yield Finding(
        "base model", "good", "Nothing points at the base; a larger or instruction-tuned one is the next thing when all else is tried."
    )


# Numbers


def _validation(run: RunFiles) -> list[tuple[float, float]]:
    return run.series("eval_loss")


def _jumps(train: Sequence[tuple[float, float]]) -> bool:
    """Whether the loss doubled from one log to the next after it had fallen, more than once."""
    losses = [loss for _, loss in train]
    return sum(later > 2 * earlier and later > 0.5 for earlier, later in itertools.pairwise(losses)) > 1


def _scaled(rate: Any, factor: float) -> tuple[tuple[str, str], ...]:
    return (("learning_rate", f"{rate * factor:.2g}"),) if isinstance(rate, (int, float)) and rate > 0 else ()


def _epochs(run: RunFiles) -> float:
    found = run.option("num_train_epochs")
    if isinstance(found, (int, float)) and found > 0:
        return float(found)
    return max((row["epoch"] for row in run.history if isinstance(row.get("epoch"), (int, float))), default=1.0)


def _is_lora(run: RunFiles) -> bool:
    return run.manifest.method in ("lora", "qlora", "dora")


def _look_at_data(run: RunFiles, how: str) -> str:
    """Return the command that checks or shows the run's data files; for data without files, the run that shows what it learns from."""
    named = run.option("data_files") or run.option("data_name") or ()
    files = [str(name) for name in (named if isinstance(named, (list, tuple)) else [named])]
    if not files or not all(Path(file).suffix or Path(file).exists() for file in files):
        return again(run, (("show_examples", "3"),))
    return " ".join(["tunesmith data", how, *map(shlex.quote, files)])
