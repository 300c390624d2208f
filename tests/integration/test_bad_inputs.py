"""What users get wrong: each is one line on stderr that says what, where and how to mend it, exit status 2, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunesmith.cli.main import main

pytestmark = pytest.mark.integration

ROWS = [{"text": f"row {number}", "label": "even" if number % 2 == 0 else "odd"} for number in range(20)]


@dataclass(frozen=True)
class Place:
    """A folder with a good model, good data and room for bad things."""

    folder: Path
    model: Path

    def file(self, name: str, content: str | bytes) -> Path:
        """Write a data file."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def rows(self, name: str = "good.jsonl", rows: list[dict[str, object]] | None = None) -> Path:
        """Write rows as JSON lines."""
        chosen = ROWS if rows is None else rows
        return self.file(name, "".join(json.dumps(row) + "\n" for row in chosen))

    def copy_of_model(self) -> Path:
        """A copy of the model that a test may spoil."""
        target = self.folder / "spoilt"
        shutil.copytree(self.model, target)
        return target


Arguments = Callable[[Place], list[object]]
CASES: dict[str, tuple[Arguments, str]] = {}


def case(name: str, words: str) -> Callable[[Arguments], Arguments]:
    """Register one bad input and what its message has to say."""

    def register(arguments: Arguments) -> Arguments:
        CASES[name] = (arguments, words)
        return arguments

    return register


def finetune(place: Place, data: object, *more: object, model: object | None = None) -> list[object]:
    """A short fine-tuning that would work if nothing were wrong."""
    return ["finetune", "--data_name", data, "--model_name_or_path", model or place.model, "--max_steps", 2, "--show_answers", 0, *more]


DATA: dict[str, tuple[str, str | bytes, str]] = {
    "empty file": ("empty.jsonl", "", "empty"),
    "only blank lines": ("blank.jsonl", "\n\n\n", "empty"),
    "not JSON": ("broken.jsonl", '{"text": "a", "label": "b"}\n{"text": oops}\n', "line 2"),
    "JSON cut off": ("cut.json", '[{"text": "a", "label": "b"}, {"text": "c"', "cut.json"),
    "JSON of a number": ("number.json", "42", "number.json"),
    "list of numbers": ("numbers.json", "[1, 2, 3]", "numbers.json"),
    "empty list": ("nothing.json", "[]", "nothing.json"),
    "not UTF-8": ("latin.jsonl", '{"text": "caf\xe9", "label": "b"}\n'.encode("latin-1") * 3, "UTF-8"),
    "binary": ("binary.jsonl", bytes(range(256)) * 4, "binary.jsonl"),
    "unknown columns": ("strange.jsonl", '{"foo": "a", "bar": "b"}\n' * 5, "foo, bar"),
    "unknown file type": ("data.xyz", "text", "data.xyz"),
    "answers empty": ("answers.jsonl", '{"text": "a", "label": ""}\n' * 5, "row 1"),
    "answers null": ("nulls.jsonl", '{"text": "a", "label": null}\n' * 5, "row 1"),
    "not Parquet": ("fake.parquet", "not parquet at all", "fake.parquet"),
    "CSV with a header only": ("header.csv", "text,label\n", "header.csv"),
    "messages that are text": ("chat.jsonl", '{"messages": "hello"}\n' * 3, "messages"),
    "messages without roles": ("roles.jsonl", '{"messages": [{"content": "hi"}]}\n' * 3, "role"),
    "messages without an answer": ("user.jsonl", '{"messages": [{"role": "user", "content": "hi"}]}\n' * 3, "row 1"),
    "brackets without end": ("nested.json", "[" * 200_000, "nested.json"),
    "a line of brackets": ("nested.jsonl", '{"text": ' + "[" * 200_000, "nested.jsonl"),
    "object instead of rows": ("object.json", '{"text": "a", "label": "b"', "object.json"),
}


@pytest.mark.parametrize("name", DATA)
def test_bad_data(name: str, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    file, content, words = DATA[name]
    check(finetune(place, place.file(file, content)), words, place, capsys)


FLAGS: dict[str, tuple[list[object], str]] = {
    "misspelt flag": (["--learning_rat", "1e-4"], "Did you mean 'learning_rate'?"),
    "misspelt own flag": (["--lora_rank_", "8"], "--lora_rank_"),
    "text for a number": (["--learning_rate", "fast"], "--learning_rate"),
    "negative learning rate": (["--learning_rate", "-1"], "--learning_rate"),
    "zero steps": (["--max_steps", "0"], "--max_steps"),
    "zero batch": (["--per_device_train_batch_size", "0"], "--per_device_train_batch_size"),
    "rank of zero": (["--lora_r", "0"], "--lora_r"),
    "dropout above one": (["--lora_dropout", "1.5"], "--lora_dropout"),
    "fraction above one": (["--validation_fraction", "2"], "--validation_fraction"),
    "unknown method": (["--method", "lorra"], "Did you mean 'lora'?"),
    "unknown type": (["--torch_dtype", "int7"], "--torch_dtype"),
    "unknown device": (["--device", "abacus"], "--device"),
    "unknown module": (["--target_modules", "q_prj"], "q_prj"),
    "unknown module to save": (["--modules_to_save", "no_such_head"], "no_such_head"),
    "layer that isn't there": (["--layers_to_transform", "99"], "99"),
    "option without effect": (["--method", "full", "--lora_r", "8"], "--lora_r"),
    "adapter option with lora": (["--adapter_reduction_factor", "4"], "--adapter_reduction_factor"),
    "quantization without qlora": (["--quant_type", "nf4"], "--quant_type"),
    "unknown quantization": (["--method", "qlora", "--quant_type", "int3"], "--quant_type"),
    "unknown logger": (["--report_to", "crystal_ball"], "crystal_ball"),
    "unknown scheduler": (["--lr_scheduler_type", "zigzag"], "zigzag"),
    "unknown optimizer": (["--optim", "sgdd"], "sgdd"),
    "what tunesmith decides": (["--output_dir", "x"], "--output_path"),
    "flag without value": (["--learning_rate"], "--learning_rate"),
    "column that isn't there": (["--text_template", "{text} -> {tone}"], "tone"),
    "template without placeholder": (["--text_template", "hello"], "uses no column"),
    "template with an open brace": (["--text_template", "{text"], "opening brace at character 1"),
    "field that isn't there": (["--text_field", "body"], "body"),
    "two ways to say the text": (["--text_field", "text", "--text_template", "{text}"], "--text_field"),
    "map from nowhere": (["--map_columns", "phrase=text"], "phrase"),
    "map without equals": (["--map_columns", "phrase"], "--map_columns"),
    "unknown chat template": (["--chat_template", "no-such-template"], "no-such-template"),
    "unknown split": (["--train_split", "tain"], "tain"),
    "empty slice": (["--train_split", "train[5:5]"], "train[5:5]"),
    "bad slice": (["--train_split", "train[a:b]"], "train[a:b]"),
    "max_seq_len too small": (["--max_seq_len", "2"], "18 rows are longer than 2 tokens"),
    "max_samples zero": (["--max_samples", "0"], "--max_samples"),
    "evaluation without rows": (["--validation_fraction", "0", "--eval_steps", "1"], "--eval_steps"),
    "push to the hub": (["--push_to_hub"], "--push_to_hub"),
    "resume nothing": (["--resume"], "no run to resume"),
    "boolean that isn't": (["--overwrite=perhaps"], "--overwrite"),
}


@pytest.mark.parametrize("name", FLAGS)
def test_bad_flags(name: str, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    more, words = FLAGS[name]
    check(finetune(place, place.rows(), *more), words, place, capsys)


@case("no such file", "absent.jsonl")
def _(place: Place) -> list[object]:
    return finetune(place, place.folder / "absent.jsonl")


@case("empty data folder", "no data files")
def _(place: Place) -> list[object]:
    (place.folder / "data").mkdir()
    return finetune(place, place.folder / "data")


@case("no data", "no data is named")
def _(place: Place) -> list[object]:
    return ["finetune", "--model_name_or_path", place.model]


@case("unknown sample", "Did you mean 'tones'?")
def _(place: Place) -> list[object]:
    return finetune(place, "sample:tone")


@case("unknown sample model", "no sample model 'gpt5'")
def _(place: Place) -> list[object]:
    return finetune(place, place.rows(), model="sample:gpt5")


@case("model folder without a model", "config.json")
def _(place: Place) -> list[object]:
    (place.folder / "hollow").mkdir()
    (place.folder / "hollow" / "notes.txt").write_text("nothing here")
    return finetune(place, place.rows(), model=place.folder / "hollow")


@case("model on the hub, without a network", "no/such-model")
def _(place: Place) -> list[object]:
    return finetune(place, place.rows(), model="no/such-model")


@case("weights cut off", "spoilt")
def _(place: Place) -> list[object]:
    model = place.copy_of_model()
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    return finetune(place, place.rows(), model=model)


@case("weights missing", "spoilt")
def _(place: Place) -> list[object]:
    model = place.copy_of_model()
    (model / "model.safetensors").unlink()
    return finetune(place, place.rows(), model=model)


@case("config that is not JSON", "config.json")
def _(place: Place) -> list[object]:
    model = place.copy_of_model()
    (model / "config.json").write_text("{oops")
    return finetune(place, place.rows(), model=model)


@case("unknown architecture", "quantum")
def _(place: Place) -> list[object]:
    model = place.copy_of_model()
    (model / "config.json").write_text(json.dumps({"model_type": "quantum", "architectures": ["QuantumForCausalLM"]}))
    return finetune(place, place.rows(), model=model)


@case("GGUF that isn't", "fake.gguf")
def _(place: Place) -> list[object]:
    return finetune(place, place.rows(), model=place.file("fake.gguf", b"GGUX" + bytes(100)))


@case("output is a file", "out.txt")
def _(place: Place) -> list[object]:
    place.file("out.txt", "mine")
    return finetune(place, place.rows(), "--output_path", place.folder / "out.txt")


@case("output exists", "not empty")
def _(place: Place) -> list[object]:
    (place.folder / "taken").mkdir()
    (place.folder / "taken" / "mine.txt").write_text("mine")
    return finetune(place, place.rows(), "--output_path", place.folder / "taken")


@case("overwriting what is not ours", "holds other things")
def _(place: Place) -> list[object]:
    (place.folder / "taken").mkdir()
    (place.folder / "taken" / "mine.txt").write_text("mine")
    return finetune(place, place.rows(), "--output_path", place.folder / "taken", "--overwrite")


@case("two data sets", "good.jsonl")
def _(place: Place) -> list[object]:
    return ["finetune", place.rows(), "--data_name", place.rows("other.jsonl")]


@case("unknown command", "Did you mean 'finetune'?")
def _(place: Place) -> list[object]:
    return ["finetun", place.rows()]


@case("generate without a model", "nowhere")
def _(place: Place) -> list[object]:
    return ["generate", "-m", place.folder / "nowhere", "hello"]


@case("generate with half an adapter", "adapter")
def _(place: Place) -> list[object]:
    (place.folder / "half").mkdir()
    (place.folder / "half" / "adapter_config.json").write_text("{}")
    return ["generate", "-m", place.model, "-a", place.folder / "half", "hello"]


@case("merge without an adapter", "no adapter to merge")
def _(place: Place) -> list[object]:
    return ["merge", "-m", place.model, "-o", place.folder / "merged"]


@case("loss that is not a number", "not a finite number")
def _(place: Place) -> list[object]:
    import torch
    from safetensors.torch import load_file, save_file

    model = place.copy_of_model()
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], float("nan"))
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    return finetune(place, place.rows(), "--validation_fraction", 0, model=model)


@pytest.mark.parametrize("name", CASES)
def test_bad_surroundings(name: str, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, words = CASES[name]
    check(arguments(place), words, place, capsys)


def test_there_are_at_least_sixty() -> None:
    assert len(DATA) + len(FLAGS) + len(CASES) >= 60


@pytest.fixture
def place(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty working folder with its own cache."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    return Place(work, tiny_folder)


def check(arguments: list[object], words: str, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the command; what was in the folder before is all that may be there after."""
    before = listing(place.folder)
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    error = [line for line in captured.err.splitlines() if line.startswith("tunesmith: error:")]
    assert status == 2, captured.err
    assert len(error) == 1, captured.err
    assert captured.err.rstrip().endswith(error[0])
    assert words in error[0]
    assert "Traceback" not in captured.err
    assert not captured.out
    assert listing(place.folder) == before


def listing(folder: Path) -> dict[str, int]:
    """Names and sizes of everything in a folder."""
    return {os.path.relpath(path, folder): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
