"""Loading a model and asking it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.runtime.chat import ChatSession
    from tunesmith.runtime.protocol import Answer, Runtime


def load(
    path: str | Path | None = None,
    *,
    adapter_path: str | Path | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    revision: str | None = None,
    token: str | None = None,
    threads: int | None = None,
) -> Runtime:
    """Load a model, and what was trained on it, ready for ``.generate(prompts)`` and ``.stream(prompt)``.

    Args:
        path: the output folder of a fine-tuning, one of its checkpoints, an adapter folder, a model folder, a GGUF file, a hub id,
            ``sample:NAME``, or the folder of an export; None for the sample model.
        adapter_path: an adapter to put on the model.
        dtype: ``auto``, ``bfloat16``, ``float16`` or ``float32``.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        trust_remote_code: run Python code that comes with the model.
        revision, token: of a hub model.
        threads: of the CPU; by default as many as there are physical cores.

    Raises:
        UserError: when it can't be found, read or put together.

    Example:
        >>> tunesmith.load("out").generate(["where is my parcel?"])[0].text  # doctest: +SKIP
    """
    from tunesmith.models.quiet import silence_kernel_advice
    from tunesmith.runtime.load import load as load_runtime

    silence_kernel_advice()
    return load_runtime(
        path,
        adapter_path=adapter_path,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
        revision=revision,
        token=token,
        threads=threads,
    )


def generate(
    path: str | Path | None,
    prompts: Sequence[Any],
    *,
    adapter_path: str | Path | None = None,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    batch_size: int | None = None,
    constrain: bool = True,
    schema: Mapping[str, Any] | None = None,
) -> list[Answer]:
    """Load a model and answer prompts, each a text, a row (for templates with several columns), or a list of messages.

    To answer more than once, keep what :func:`load` returns; its ``with_schema`` does what ``schema`` and ``constrain`` do here.

    Args:
        constrain: hold the answers of a model that was trained for extraction, or for several labels a row, to its schema or labels.
        schema: a JSON schema that answers must fit, whatever the model was trained for.

    Raises:
        UserError: as :func:`load`, and for prompts that don't fit the template or the context, or a schema that answers can't be held to.
    """
    from tunesmith.errors import UsageError

    if schema is not None and not constrain:
        raise UsageError("a schema is given, and constrain=False", fix="Give one of them")
    runtime = load(path, adapter_path=adapter_path)
    runtime = runtime if schema is None and constrain else runtime.with_schema(schema)
    return runtime.generate(prompts, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed, batch_size=batch_size)


def read_schema(file: str | Path) -> dict[str, Any]:
    """Read a JSON schema that answers can be held to.

    Raises:
        UsageError: when it can't be read, or has what can't be checked while an answer is written.
    """
    from tunesmith.data.answer_grammar import schema_grammar
    from tunesmith.data.json_answers import read_schema as read_file

    schema = read_file(str(file))
    schema_grammar(schema, name=f"--answer_schema {file}")
    return schema


def chat(
    path: str | Path | None = None,
    *,
    adapter_path: str | Path | None = None,
    system_prompt: str | None = None,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    **loading: Any,
) -> ChatSession:
    """Return a conversation with a model; ``loading`` is passed to :func:`load`.

    Raises:
        UserError: as :func:`load`.
    """
    from tunesmith.runtime.chat import ChatSession

    return ChatSession(
        load(path, adapter_path=adapter_path, **loading),
        system_prompt=system_prompt,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    )
