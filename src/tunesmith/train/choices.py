"""What the options say in another form: the seed, the run's folder, the method; and what the model's configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.config.finetune import FinetuneOptions
from tunesmith.config.resolve import Resolved
from tunesmith.methods import build_method
from tunesmith.methods.protocol import Method
from tunesmith.models.checks import read_config
from tunesmith.models.sources import ModelSource
from tunesmith.train.defaults import DEFAULT_SEED
from tunesmith.train.start_adapter import settled_by_adapter, start_folder


def seed_of(training: Mapping[str, Any]) -> int:
    """Return ``--seed``, or its default."""
    seed = training.get("seed")
    return DEFAULT_SEED if seed is None else int(seed)


def output_folder(options: FinetuneOptions) -> Path:
    """Return where the run goes; without ``--output_path`` a folder named after data and method, numbered when it exists."""
    if options.output_path:
        return Path(options.output_path).expanduser()
    data = options.data_name or (options.data_files or ("data",))[0]
    name = f"{Path(data.replace(':', '-')).stem}-{options.method}"
    candidates = [Path("runs") / name, *(Path("runs") / f"{name}-{number}" for number in range(2, 10_000))]
    existing = [path for path in candidates if path.exists()]
    if options.resume and existing:
        return existing[-1]
    return next(path for path in candidates if path not in existing)


def max_positions(source: ModelSource) -> int | None:
    """Return the most tokens the model was made for, or None where its configuration doesn't say."""
    if source.kind == "gguf":
        return None
    config = read_config(source.folder)
    text = config.get("text_config") or config
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        if isinstance(text.get(name), int):
            return int(text[name])
    return None


def method_of(resolved: Resolved[FinetuneOptions]) -> Method:
    """Build the method from its options, or from the adapter to go on with; those without effect are refused when somebody gave them."""
    options = resolved.options
    folder = start_folder(options)
    if folder is not None:
        settled = settled_by_adapter(folder, options, resolved.explicit)
        return build_method(
            options.method, explicit=resolved.explicit, lora_dropout=options.lora_dropout, quant_type=options.quant_type, **settled
        )
    return build_method(
        options.method,
        explicit=resolved.explicit,
        lora_r=options.lora_r,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules=options.target_modules,
        modules_to_save=options.modules_to_save,
        use_rslora=options.use_rslora,
        init_lora_weights=options.init_lora_weights,
        layers_to_transform=options.layers_to_transform,
        quant_type=options.quant_type,
        adapter_reduction_factor=options.adapter_reduction_factor,
        adapter_placement=options.adapter_placement,
    )
