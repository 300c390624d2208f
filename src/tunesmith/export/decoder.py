"""Decoders as ONNX, by the model builder of onnxruntime-genai: adapters merged in float32 first, quantized last."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tunesmith.errors import DependencyError, ModelError, TunesmithError, UsageError
from tunesmith.export.source import ExportSource, float_model
from tunesmith.models.quiet import quiet_libraries
from tunesmith.models.save import save_plain_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tunesmith.export.targets import Recipe

log = logging.getLogger(__name__)

MODEL_FILE = "model.onnx"
GENAI_CONFIG = "genai_config.json"
#: Options of the builder that this program decides itself.
_OURS = {
    "adapter_path": "--adapter_path",
    "config_only": "",
    "filename": "",
    "hf_token": "--token",
    "hf_remote": "--trust_remote_code",
    "use_webgpu_fp32": "--precision",
}


def check_builder() -> None:
    """Check that the model builder is installed.

    Raises:
        DependencyError: when it, or a package that it needs, isn't.
    """
    for package in ("onnxruntime_genai", "onnx", "onnx_ir", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise DependencyError(package.replace("_", "-"), "cpu", purpose="exporting a decoder to ONNX")


def check_extra_options(options: Mapping[str, Any]) -> None:
    """Refuse options of the builder that a flag of ours decides.

    Raises:
        UsageError: naming the flag.
    """
    for name in options:
        if name in _OURS:
            fix = f"Use {_OURS[name]}" if _OURS[name] else "Leave it out"
            raise UsageError(f"--extra_options {name} is decided by tunesmith itself", fix=fix)


def build_decoder(source: ExportSource, folder: Path, recipe: Recipe) -> None:
    """Write ``model.onnx``, its data file, ``genai_config.json`` and the tokenizer into ``folder``.

    Args:
        source: a decoder.
        folder: exists, empty.
        recipe: precision, and the builder's options.

    Raises:
        ModelError: when the builder doesn't know the architecture.
        UsageError: when it refuses an option.
    """
    check_builder()
    with plain_folder(source, folder) as plain:
        run_builder(plain, folder, recipe, trust_remote_code=source.trust_remote_code)
    finish_decoder(source, folder)


@contextlib.contextmanager
def plain_folder(source: ExportSource, beside: Path) -> Iterator[Path]:
    """Yield a plain model folder for ``source``: its own where there is nothing to merge, else one that is removed afterwards."""
    base = source.places.base
    if source.places.adapter is None and base.kind != "gguf":
        if base.kind == "hub":
            from tunesmith.models.hub import fetch_weights

            fetch_weights(base.name, base.path, token=base.token)
        yield base.folder
        return
    with tempfile.TemporaryDirectory(prefix=".merged-", dir=beside) as temporary:
        save_plain_model(cast("PreTrainedModel", float_model(source)), source.tokenizer, Path(temporary))
        yield Path(temporary)


def run_builder(plain: Path, folder: Path, recipe: Recipe, *, trust_remote_code: bool = False) -> None:
    """Run the model builder on a plain model folder, without its chatter.

    Raises:
        ModelError, UsageError: in one line, for what the builder refuses.
    """
    options = dict(recipe.options)
    provider = options.pop("execution_provider")
    given = [f"{name}={_as_text(value)}" for name, value in {**options, "hf_token": "false", "hf_remote": trust_remote_code}.items()]
    said = io.StringIO()
    try:
        with quiet_libraries(), _quiet_quantizer(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            from onnxruntime_genai.models.builder import create_model, parse_extra_options

            cache = str(folder / ".cache")
            parsed = parse_extra_options("", str(plain), str(folder), recipe.precision, provider, cache, given)
            _flatten_rotary(parsed["hf_details"]["hf_config"])
            create_model("", str(plain), str(folder), recipe.precision, provider, cache, **parsed)
    except (NotImplementedError, ValueError, KeyError, AttributeError, TypeError, AssertionError, RuntimeError) as error:
        log.debug("The model builder said:\n%s", said.getvalue())
        raise _in_words(error, plain, recipe) from error
    log.debug("The model builder said:\n%s", said.getvalue())
    if not (folder / MODEL_FILE).is_file():
        raise TunesmithError(f"the model builder ended without writing {MODEL_FILE}")


def _flatten_rotary(config: Any) -> None:
    """Spell Gemma 3's two rotary bases as the builder reads them: transformers 5 keeps them by the kind of layer."""
    parameters = getattr(config, "rope_parameters", None)
    if not isinstance(parameters, dict) or not {"full_attention", "sliding_attention"} <= parameters.keys():
        return
    if not str(config.model_type).startswith("gemma3"):  # of Gemma 4 the builder reads both itself
        return
    config.rope_theta = parameters["full_attention"]["rope_theta"]
    config.rope_local_base_freq = parameters["sliding_attention"]["rope_theta"]
    config.rope_parameters = dict(parameters["full_attention"])


def finish_decoder(source: ExportSource, folder: Path) -> None:
    """Write the tokenizer of training over the builder's, and make generation stop where training stopped."""
    tokenizer = source.tokenizer
    config = json.loads((folder / GENAI_CONFIG).read_text(encoding="utf-8"))
    _check_head_size(int(config["model"]["decoder"]["head_size"]))
    with _chat_template(source), quiet_libraries():
        tokenizer.save_pretrained(folder)
    _cap_model_max_length(folder, int(config["model"]["context_length"]))
    stops = source.template.stop_token_ids(tokenizer)
    if stops:
        config["model"]["eos_token_id"] = stops if len(stops) > 1 else stops[0]
    if isinstance(tokenizer.pad_token_id, int):
        config["model"]["pad_token_id"] = tokenizer.pad_token_id
    (folder / GENAI_CONFIG).write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")


def _check_head_size(head_size: int) -> None:
    """onnxruntime's attention says so only when the first token is computed."""
    if head_size % 16:
        message = f"the model has attention heads of size {head_size}, onnxruntime runs multiples of 16"
        raise ModelError(message, fix="Export it for llama.cpp: --format gguf")


def _cap_model_max_length(folder: Path, context_length: int) -> None:
    """transformers writes 1e30 for a tokenizer without a limit, which not every JSON reader takes as an integer."""
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["model_max_length"] = min(int(config.get("model_max_length") or context_length), context_length)
    file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _chat_template(source: ExportSource) -> Iterator[None]:
    """The tokenizer with the chat template of training on it, so that the runtime's own chat renders what was learnt."""
    tokenizer, own = source.tokenizer, source.tokenizer.chat_template
    if source.template.kind == "chat":
        tokenizer.chat_template = source.template.chat_template
    try:
        yield
    finally:
        tokenizer.chat_template = own


@contextlib.contextmanager
def _quiet_quantizer() -> Iterator[None]:
    """onnxruntime's quantizer logs two lines for every node, and as an error that an embedding stays in floating point at int8."""
    quantizer = logging.getLogger("onnxruntime.quantization")
    level = quantizer.level
    quantizer.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        quantizer.setLevel(level)


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _in_words(error: Exception, plain: Path, recipe: Recipe) -> TunesmithError:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if "is not currently supported" in first:
        config = json.loads((plain / "config.json").read_text(encoding="utf-8"))
        named = ", ".join(config.get("architectures") or [config.get("model_type", "unknown")])
        message = f"the model builder of onnxruntime-genai doesn't know the architecture {named}"
        return ModelError(message, fix="Export it for llama.cpp: --format gguf")
    if isinstance(error, (ValueError, NotImplementedError)):
        return UsageError(f"the model builder refuses: {first}", fix=f"Asked for: {recipe.precision}, {dict(recipe.options)}")
    return ModelError(f"the model builder can't build this model: {type(error).__name__}: {first}")
