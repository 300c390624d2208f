"""What the user reads: what will be done, and how it went."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.methods.dequantized import count_parameters
from tunesmith.train.estimate import MemoryEstimate
from tunesmith.train.progress import spell_seconds

if TYPE_CHECKING:
    from torch import nn

    from tunesmith.config.finetune import FinetuneOptions
    from tunesmith.config.resolve import Resolved
    from tunesmith.methods.protocol import Method
    from tunesmith.models.sources import ModelSource
    from tunesmith.train.inputs import Inputs
    from tunesmith.train.session import Outcome
    from tunesmith.train.settings import Plan


def plan(
    resolved: Resolved[FinetuneOptions],
    source: ModelSource,
    inputs: Inputs,
    method: Method,
    plan: Plan,
    estimate: MemoryEstimate,
    model: nn.Module,
    folder: Path,
) -> list[str]:
    """Say what is about to happen, and the long form of the command that would do exactly this."""
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = count_parameters(model)
    arguments = plan.arguments
    validation = f", {len(inputs.validation.dataset):,} to validate" if inputs.validation else ", none to validate"
    return [
        f"Data: {inputs.origin}: {len(inputs.train.dataset):,} rows to train on{validation}; {inputs.recognized}.",
        f"Tokens: {inputs.train.num_tokens:,}, {learnt(inputs)}; "
        f"rows up to {inputs.train.max_seq_len} tokens"
        + (f"; {inputs.train.num_cut_rows:,} rows are cut" if inputs.train.num_cut_rows else "")
        + (f"; {inputs.train.num_dropped_rows:,} rows are dropped" if inputs.train.num_dropped_rows else "")
        + ".",
        f"Model: {source.name}; {method.name} trains {trainable:,} of {total:,} weights ({trainable / max(total, 1):.1%}).",
        f"Memory: {estimate}.",
        f"Steps: {plan.schedule.total_steps:,} of {arguments['per_device_train_batch_size']} rows"
        + (f" x {arguments['gradient_accumulation_steps']}" if arguments.get("gradient_accumulation_steps", 1) > 1 else "")
        + f", learning rate {arguments['learning_rate']:g} ({arguments['lr_scheduler_type']}).",
        f"Long form: {long_form(resolved, plan, source, folder)}",
    ]


def learnt(inputs: Inputs) -> str:
    """Say what the loss is taken on."""
    record, count = inputs.task.record, inputs.train.num_supervised
    if not record.head:
        return f"of which {count:,} are learnt"
    if record.name == "token-classification":
        return f"with {count:,} words in {len(record.labels)} tags to learn"
    return f"with {count:,} labels ({len(record.labels)} different ones) to learn" if record.labels else f"with {count:,} pairs to learn"


def long_form(resolved: Resolved[FinetuneOptions], plan: Plan, source: ModelSource, folder: Path) -> str:
    """Return the command with everything spelt out that was given or chosen and differs from what stands for nothing."""
    values: dict[str, Any] = {name: entry["value"] for name, entry in resolved.record().items() if name in resolved.explicit}
    values.setdefault("model_name_or_path", source.name)
    values.setdefault("method", resolved.options.method)
    values.update({name: value for name, value in plan.chosen.items() if name not in ("eval_on_start",)})
    values["output_path"] = str(folder)
    return "tunesmith finetune " + " ".join(
        f"--{name} {_spell(value)}" for name, value in values.items() if name not in ("overwrite", "resume")
    )


def _spell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return " ".join(shlex.quote(f"{key}={part}") for key, part in value.items())
    if isinstance(value, list | tuple):
        return shlex.quote(",".join(map(str, value)))
    return f"{value:g}" if isinstance(value, float) else shlex.quote(str(value))


def outcome(metrics: Mapping[str, float], outcome: Outcome, plan: Plan) -> list[str]:
    """Say how it went, in sentences."""
    said = []
    if outcome.reason:
        said.append(outcome.reason[:1].upper() + outcome.reason[1:] + ".")
    elif outcome.sign:
        said.append(f"Sign of overfitting: {outcome.sign}; the weights of step {outcome.kept_step} are kept.")
    before, after = metrics.get("base_eval_loss"), metrics.get("eval_loss")
    if before is not None and after is not None:
        said.append(f"Validation loss {before:.4f} before, {after:.4f} after{_more_figures(metrics)}.")
        said.append(verdict(before, after))
    elif not plan.schedule.eval_steps:
        said.append("Without validation rows nothing says whether it learnt or memorized; name some with --eval_split.")
    if outcome.kept_step != outcome.steps and not outcome.reason:
        said.append(f"The best weights were those of step {outcome.kept_step} of {outcome.steps}; they are the ones kept.")
    if outcome.training_s:
        steps = f"{outcome.steps:,} {'step' if outcome.steps == 1 else 'steps'}"
        said.append(f"{steps} in {spell_seconds(outcome.training_s)} of training, at most {outcome.peak_gib:.1f} GiB of memory.")
    return said


def _more_figures(metrics: Mapping[str, float]) -> str:
    """Perplexity and token accuracy of text, accuracy of a head."""
    before, after = metrics["base_eval_loss"], metrics["eval_loss"]
    if "eval_token_accuracy" in metrics:
        perplexity = f" (perplexity {_perplexity(before)} -> {_perplexity(after)})" if "eval_perplexity" in metrics else ""
        return f"{perplexity}; token accuracy {metrics['base_eval_token_accuracy']:.1%} -> {metrics['eval_token_accuracy']:.1%}"
    if "eval_accuracy" in metrics:
        return f"; accuracy {metrics['base_eval_accuracy']:.1%} -> {metrics['eval_accuracy']:.1%}"
    return ""


def verdict(before: float, after: float) -> str:
    """Judge the change of the validation loss."""
    if after < before * 0.95:
        return "It learnt: rows that it never saw are predicted better than by the base model."
    if after <= before * 1.02:
        return "It hardly changed: look at the template and the data, then try a higher --learning_rate or more steps."
    return (
        "It got worse than the base model on rows it never saw: lower --learning_rate, "
        "and check that validation rows are like training rows."
    )


def _perplexity(loss: float) -> str:
    return f"{math.exp(min(loss, 50.0)):,.2f}"
