"""Going on with an adapter that was trained before (``--adapter_path``), on its base or on that base's quantization grid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunesmith.config.finetune import FinetuneOptions
from tunesmith.errors import ModelError, UsageError
from tunesmith.methods.adapters import PEFT_CONFIG

#: Option of the command line -> what peft's configuration calls it: all of them are settled by the adapter that is there.
_SETTLED = {
    "lora_r": "r",
    "lora_alpha": "lora_alpha",
    "target_modules": "target_modules",
    "modules_to_save": "modules_to_save",
    "use_rslora": "use_rslora",
    "layers_to_transform": "layers_to_transform",
}


def start_folder(options: FinetuneOptions) -> Path | None:
    """Return the folder of the adapter to go on with, None for a training that starts with a fresh one.

    Raises:
        ModelError: when there is no LoRA or DoRA adapter of peft.
        UsageError: for a method that trains none.
    """
    if options.adapter_path is None:
        return None
    if options.method not in ("lora", "dora", "qlora"):
        raise UsageError(f"--adapter_path has no effect with --method {options.method}", fix="It goes on with lora, dora or qlora.")
    named = Path(options.adapter_path).expanduser()
    folder = next((place for place in (named, named / "adapter") if (place / PEFT_CONFIG).is_file()), None)
    if folder is None:
        found = "no such folder" if not named.is_dir() else f"no {PEFT_CONFIG} in it"
        raise ModelError(
            f"--adapter_path {options.adapter_path} is no adapter of peft ({found})", fix="Name a run, or its folder 'adapter'."
        )
    return folder


def settled_by_adapter(folder: Path, options: FinetuneOptions, explicit: frozenset[str]) -> dict[str, Any]:
    """Return the options that the adapter in ``folder`` settles, by their name on the command line.

    Raises:
        UsageError: when the user gave one of them too, or the method doesn't fit the adapter.
        ModelError: for a configuration that can't be read, and for an adapter that is no LoRA.
    """
    given = sorted(explicit & {*_SETTLED, "init_lora_weights"})
    if given:
        flags = ", ".join(f"--{name}" for name in given)
        raise UsageError(f"{flags} can't be chosen: --adapter_path goes on with an adapter that has its own", fix=f"Leave {flags} out.")
    try:
        config = json.loads((folder / PEFT_CONFIG).read_text(encoding="utf-8"))
        kind, dora = config["peft_type"], bool(config.get("use_dora"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{folder / PEFT_CONFIG} can't be read: {error!r}", fix="Restore the folder from a copy.") from error
    if kind != "LORA":
        raise ModelError(f"the adapter in {folder} is of type {kind}, and only LoRA and DoRA can be gone on with", fix="Start afresh.")
    if dora != (options.method == "dora"):
        fix = "--method dora goes on with it." if dora else "--method lora or qlora goes on with it."
        raise UsageError(f"the adapter in {folder} is {'DoRA' if dora else 'LoRA'}, --method is {options.method}", fix=fix)
    return {option: config[name] for option, name in _SETTLED.items() if config.get(name) is not None}
