"""Everything that ``transformers.TrainingArguments`` takes, as flags and YAML keys with its own names, types and defaults.

They are read from transformers' source file (see ``training_source``), so that neither a help nor a refusal has to import it.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from tunesmith.config.declare import Kind, kind_of
from tunesmith.config.training_source import TrainingArgument, read_training_arguments
from tunesmith.config.values import convert
from tunesmith.errors import ConfigError, nearest

# Spellings of other releases and tools, with the name that means the same today.
RENAMED = {
    "batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "epochs": "num_train_epochs",
    "lr": "learning_rate",
    "evaluation_strategy": "eval_strategy",
    "warmup_ratio": "warmup_steps",  # since transformers 5 warmup_steps below 1 is the ratio
}

# What tunesmith decides itself, and what to use instead.
DECIDED = {
    "output_dir": "use --output_path",
    "overwrite_output_dir": "use --overwrite",
    "resume_from_checkpoint": "use --resume",
    "do_train": "finetune always trains",
    "do_eval": "finetune validates whenever there are validation rows; see --validation_fraction",
    "do_predict": "finetune doesn't predict; see tunesmith generate",
    "auto_find_batch_size": "use --auto_batch",
    "use_cpu": "use --device cpu",
    "no_cuda": "use --device cpu",
    "hub_token": "use --token",
    "log_level": "use --log_level of the command line, or logging.getLogger('tunesmith')",
    "train_sampling_strategy": "use --group_by_length",
    "remove_unused_columns": "the columns are tunesmith's own",
    "label_names": "the columns are tunesmith's own",
    "length_column_name": "the columns are tunesmith's own",
    "prediction_loss_only": "evaluation never keeps logits; see --eval_generate",
    "parallelism_config": "it has no form as a flag; use a configuration file of accelerate",
    "local_rank": "the launcher sets it",
}

# (name, the least value, whether that value itself is allowed)
LIMITS = {
    "per_device_train_batch_size": (1, True),
    "per_device_eval_batch_size": (1, True),
    "gradient_accumulation_steps": (1, True),
    "num_train_epochs": (0, False),
    "learning_rate": (0, False),
    "weight_decay": (0, True),
    "warmup_steps": (0, True),
    "max_grad_norm": (0, True),
    "logging_steps": (0, False),
    "eval_steps": (0, False),
    "save_steps": (0, False),
    "save_total_limit": (1, True),
    "dataloader_num_workers": (0, True),
    "label_smoothing_factor": (0, True),
    "seed": (0, True),
    "data_seed": (0, True),
    "eval_accumulation_steps": (1, True),
}


@lru_cache(maxsize=1)
def training_arguments() -> dict[str, TrainingArgument]:
    """Return every argument that may be given, by name, in transformers' order; those that tunesmith decides are left out."""
    found = read_training_arguments() or _read_class()
    return {name: argument for name, argument in found.items() if name not in DECIDED}


def _read_class() -> dict[str, TrainingArgument]:
    """Return the fields of the imported class: slow, for a transformers whose source isn't laid out as expected."""
    from transformers import TrainingArguments

    types = typing.get_type_hints(TrainingArguments)
    return {
        field.name: TrainingArgument(field.name, types[field.name], _default(field), str(field.metadata.get("help", "")))
        for field in dataclasses.fields(TrainingArguments)
        if field.init
    }


def training_kinds() -> dict[str, Kind]:
    """Return how the flag of each training argument takes its value; the spellings of ``RENAMED`` included."""
    kinds = {name: kind_of(argument.annotation) for name, argument in training_arguments().items()}
    return kinds | {old: kinds[new] for old, new in RENAMED.items() if new in kinds}


def check_training_arguments(given: Mapping[str, object], *, own: Iterable[str] = ()) -> dict[str, object]:
    """Return the training arguments as values of their types.

    Args:
        given: text from flags, or values from Python or YAML, by name.
        own: tunesmith's option names, so that a misspelt one is recognized too.
    Raises:
        ConfigError: with every unknown name (and the nearest known one), wrong value, and argument that tunesmith decides itself.
    """
    renamed: dict[str, object] = {}
    problems = []
    for written, value in given.items():
        if name_of_today(written) in renamed:
            problems.append(f"--{written} is given twice, under another name too")
        renamed[name_of_today(written)] = value
    values, found = convert_training_arguments(renamed, own=own, label=lambda name: f"--{name}")
    problems += found
    if problems:
        raise ConfigError(problems)
    return values


def name_of_today(name: str) -> str:
    """Return the name that the installed transformers has for an argument of another release or tool; other names as they are."""
    return RENAMED[name] if name in RENAMED and name not in training_arguments() else name


def convert_training_arguments(
    given: Mapping[str, object], *, own: Iterable[str], label: Callable[[str], str]
) -> tuple[dict[str, object], list[str]]:
    """Return the values, and the problems as ``check_training_arguments`` raises them; ``label`` gives what messages call an argument."""
    known = training_arguments()
    values: dict[str, object] = {}
    problems: list[str] = []
    for name, value in given.items():
        if name not in known:
            problems.append(f"{label(name)} {_unknown(name, known, own)}")
            continue
        try:
            values[name] = _within_limits(name, convert(value, known[name].annotation))
        except ValueError as error:
            problems.append(f"{label(name)} {error}")
    return values, problems


def _unknown(name: str, known: Iterable[str], own: Iterable[str]) -> str:
    if name in DECIDED:
        return f"is not taken here: {DECIDED[name]}"
    close = nearest(name, [*own, *known, *RENAMED])
    return "is not known" + (f". {close}" if close else "")


def _within_limits(name: str, value: object) -> object:
    if name in LIMITS and isinstance(value, (int, float)):
        least, allowed = LIMITS[name]
        if value < least or (value == least and not allowed):
            raise ValueError(f"is {value}: should be {'at least' if allowed else 'greater than'} {least}")
    if name == "max_steps" and (value == 0 or (isinstance(value, int) and value < -1)):
        raise ValueError(f"is {value}: should be at least 1, or -1 for whole epochs")
    return value


def _default(field: dataclasses.Field[Any]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
