"""The options of ``tunesmith bench`` and ``tunesmith tune-session-params``."""

from __future__ import annotations

from tunesmith.config.declare import Options, option

WORK, MACHINE = "Work", "Machine"


class MeasuringOptions(Options):
    """What a model is timed with."""

    prompt_tokens: int = option(256, "Tokens of each prompt.", group=WORK, at_least=2)
    new_tokens: int = option(64, "Tokens written behind each prompt.", group=WORK, at_least=1)
    repeats: int = option(5, "How often, after one time that doesn't count.", group=WORK, at_least=1)
    trust_remote_code: bool = option(False, "Run Python code that comes with a model. Only for authors you trust.", group=MACHINE)


class BenchOptions(MeasuringOptions):
    """What ``tunesmith bench`` can be told."""

    artifacts: tuple[str, ...] | None = option(
        None, "What to measure: folders of exports, runs or models, hub ids, GGUF files.", group=WORK, metavar="ARTIFACT"
    )
    threads: int | None = option(None, "Threads, for all of them.", group=MACHINE, at_least=1, default_text="the physical cores")


class TuneSessionOptions(MeasuringOptions):
    """What ``tunesmith tune-session-params`` can be told."""

    artifact: str | None = option(None, "Folder of an export that onnxruntime-genai runs.", group=WORK, metavar="FOLDER")
