"""Models and tokenizers from any source, in the precision and on the device that this machine is good at."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from tunesmith.errors import ModelError, UserError
from tunesmith.hardware import detect
from tunesmith.models.checks import check_weights, read_config
from tunesmith.models.gguf import reading_once
from tunesmith.models.heads import AUTO_CLASSES, Head, head_modules
from tunesmith.models.precision import choose_device, choose_dtype
from tunesmith.models.quiet import quiet_libraries
from tunesmith.models.sources import ModelSource
from tunesmith.models.structure import is_causal

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["choose_device", "choose_dtype", "load_model", "load_tokenizer"]

log = logging.getLogger(__name__)


def load_tokenizer(source: ModelSource, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer of ``source``; it has a pad token afterwards: its own, or the end-of-text token, as is usual for GPT-2.

    Args:
        source: from :func:`tunesmith.models.sources.resolve_model`.
        trust_remote_code: run Python code that comes with the model.

    Raises:
        ModelError: when there is none, it can't be read, or needs code that is not trusted.
    """
    from transformers import AutoTokenizer

    _check_remote_code(source, "AutoTokenizer", trust_remote_code)
    with _in_words(source, "tokenizer"), quiet_libraries(), _reading(source):
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=trust_remote_code, **_gguf_file(source))
    for leaked in ("is_local", "local_files_only"):  # arguments of this call, which transformers would write into saved tokenizers
        tokenizer.init_kwargs.pop(leaked, None)
    if not len(tokenizer):
        raise ModelError(
            f"the tokenizer of {source.name} is empty: its files are missing in {source.folder}", fix="Download the model again"
        )
    if tokenizer.pad_token is None:
        stand_in = tokenizer.eos_token or tokenizer.unk_token
        if stand_in is None:
            raise ModelError(
                f"the tokenizer of {source.name} names neither a pad nor an end-of-text token", fix="Name one in tokenizer_config.json"
            )
        tokenizer.pad_token = stand_in
        log.debug("The tokenizer has no pad token; %s stands in.", stand_in)
    return tokenizer


def load_model(
    source: ModelSource,
    *,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    task: str | Head = "text-generation",
) -> PreTrainedModel:
    """Load the model of ``source``, in evaluation mode.

    Safetensors are memory-mapped: weights whose format needs no conversion stay in the file's pages until they are touched.
    A GGUF file is dequantized. What was asked for and is impossible is replaced, and said as a warning.

    Args:
        source: from :func:`tunesmith.models.sources.resolve_model`; for a run, its base model, without the adapter.
        dtype: ``auto``, ``bfloat16``, ``float16`` or ``float32``, see :func:`choose_dtype`.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        trust_remote_code: run Python code that comes with the model.
        task: what the model ends in: a key of :data:`tunesmith.models.heads.AUTO_CLASSES`, or a :class:`Head` that names the labels too.
            A head is new, and random, where the model has none for these labels.

    Raises:
        ModelError: when it can't be read, lacks weights, is of another kind than the task needs, or needs code that is not trusted.
        UsageError: when ``dtype`` or ``device`` don't exist.
    """
    import transformers

    head = task if isinstance(task, Head) else Head(task)
    auto_class = AUTO_CLASSES[head.task]
    where, chosen = _choose(dtype, device)
    _check_remote_code(source, auto_class, trust_remote_code)
    if source.kind == "hub":
        from tunesmith.models.hub import fetch_weights

        fetch_weights(source.name, source.path, token=source.token)
    if source.kind != "gguf":
        _check_pickle(source)
    options: dict[str, Any] = {"dtype": chosen, "trust_remote_code": trust_remote_code, **_gguf_file(source), **head.config_values()}
    # transformers would only log which weights are missing or don't fit, and raise without naming them: _check_complete does it
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    if source.kind == "gguf" and hasattr(transformers, "GgufConfig"):
        # without it, newer transformers leave the weights in 4-bit blocks where they find a kernel: those can't be trained or merged
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    with _in_words(source, "model"), quiet_libraries(), _reading(source):
        model, info = getattr(transformers, auto_class).from_pretrained(source.folder, **options)
    _check_complete(source, model, info, head)
    if head.task == "text-generation" and not is_causal(model):
        message = f"{source.name} is an encoder ({model.config.model_type}): its tokens see those after them, so it can't write text"
        raise ModelError(message, fix="Give a decoder (Llama, Qwen, Phi, SmolLM, GPT-2 …); to score labels with an encoder, use --head")
    placed: PreTrainedModel = model.to(where).eval()
    return placed


def _choose(dtype: str, device: str) -> tuple[str, torch.dtype]:
    where, device_note = choose_device(device)
    chosen, dtype_note = choose_dtype(dtype, detect(gpus=where != "cpu"), device=where)
    for note in (device_note, dtype_note):
        if note:
            log.warning(note)
    return where, chosen


def _reading(source: ModelSource) -> contextlib.AbstractContextManager[None]:
    return reading_once() if source.kind == "gguf" else contextlib.nullcontext()


def _gguf_file(source: ModelSource) -> dict[str, str]:
    return {"gguf_file": source.path.name} if source.kind == "gguf" else {}


def _check_remote_code(source: ModelSource, auto_class: str, trusted: bool) -> None:
    """Code of a model's own runs only when trusted; say so when it does."""
    if source.kind == "gguf" or not (source.folder / "config.json").is_file():  # the latter: an adapter's folder, for its tokenizer
        return
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    config = read_config(source.folder)
    own_code = set(config.get("auto_map") or ()) & {auto_class, "AutoConfig"}
    if not own_code or (not trusted and config.get("model_type") in CONFIG_MAPPING_NAMES):
        return
    if not trusted:
        raise _untrusted(source)
    if auto_class != "AutoTokenizer":
        log.warning("Running the Python code that comes with %s, since --trust_remote_code was given.", source.name)


def _untrusted(source: ModelSource) -> ModelError:
    message = f"the model {source.name} brings Python code of its own, which would run on this machine with all your rights"
    return ModelError(message, fix="Read the code, and if you trust its author, add --trust_remote_code")


def _check_pickle(source: ModelSource) -> None:
    files = check_weights(source.folder)
    if files[0].suffix == ".bin":
        # transformers reads pickles with torch's weights_only loader: tensors pass, code is refused
        log.info("The weights of %s are pickled (%s); only tensors are read from them, no code.", source.name, files[0].name)


def _check_complete(source: ModelSource, model: PreTrainedModel, info: dict[str, Any], head: Head) -> None:
    """transformers fills weights that a file lacks with random numbers and goes on; that is a broken model."""
    has_own = head.may_be_new and head.task not in ("text-generation", "sequence-to-sequence")
    new = tuple(f"{name}." for name in head_modules(model)) if has_own else ()
    missing = sorted(name for name in info.get("missing_keys", ()) if not name.startswith(new))
    wrong = sorted(name for name in (str(entry[0]) for entry in info.get("mismatched_keys", ())) if not name.startswith(new))
    for names, what in ((missing, "are missing"), (wrong, "have another shape than config.json says")):
        if names:
            named = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
            message = f"{len(names)} weights of {source.name} {what}: {named}"
            raise ModelError(message, fix=f"Is it really a {model.config.model_type} model for {head.task}? Download it again")


@contextlib.contextmanager
def _in_words(source: ModelSource, what: str) -> Iterator[None]:
    """Turn what transformers raises over a model's files into one line; running out of memory passes as it is."""
    try:
        yield
    except (UserError, torch.OutOfMemoryError):
        raise
    except (UnpicklingError, SafetensorError) as error:
        fix = "Get it as safetensors, or convert it where you trust it"
        raise ModelError(f"the weights of {source.name} are damaged, or hold more than tensors: {_first_line(error)}", fix=fix) from error
    except ImportError as error:
        raise ModelError(f"the {what} of {source.name} needs a package that is not installed: {_first_line(error)}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        if "can't allocate memory" in str(error):
            raise
        if "trust_remote_code=True" in str(error):  # a tokenizer's own code: transformers alone knows whether it needs it
            raise _untrusted(source) from error
        raise ModelError(f"the {what} of {source.name} can't be loaded: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
