"""The options that say which model is used and how it is loaded; shared by every command that loads one."""

from __future__ import annotations

from typing import Any, Literal

from tunesmith.config.declare import Options, option

MODEL = "Model"


class SourceOptions(Options):
    """Which model."""

    model_name_or_path: str | None = option(
        None,
        "Hub id, local folder, GGUF file, folder of an earlier run, or sample:smollm2-135m.",
        group=MODEL,
        short="m",
        metavar="MODEL",
        default_text="sample:smollm2-135m",
    )
    revision: str | None = option(None, "Branch, tag or commit of the model on the hub.", group=MODEL)
    token: str | None = option(
        None, "Hub token for private models and data; the environment variable HF_TOKEN does as well.", group=MODEL, secret=True
    )
    trust_remote_code: bool = option(
        False, "Run Python code that the model's authors put into its repository. Only for authors you trust.", group=MODEL
    )


class ModelOptions(SourceOptions):
    """Which model, in which number format and where."""

    torch_dtype: Literal["auto", "bfloat16", "float16", "float32"] = option(
        "auto", "Number format of the weights; auto: bfloat16 where the hardware multiplies it, float32 elsewhere.", group=MODEL
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = option("auto", "Where to compute; auto: a GPU when there is one.", group=MODEL)


def threads_option() -> Any:
    """Declare how many threads run a model."""
    return option(None, "Threads of the CPU that run the model.", group=MODEL, at_least=1, default_text="the physical cores")
