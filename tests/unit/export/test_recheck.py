"""Every harm done to a real ONNX export is found and named: while it is made, and when it is certified again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tiny_models import save_tiny, tiny_model, tiny_tokenizer
from tunesmith import api
from tunesmith.cli.main import main
from tunesmith.errors import ModelError
from tunesmith.export import evaluation_set
from tunesmith.export.certificate import Certificate
from tunesmith.export.recheck import recheck

pytest.importorskip("onnxruntime_genai", reason="needs onnxruntime-genai (extra 'cpu')")
OPTIONS: dict[str, Any] = {"hidden_size": 64, "initializer_range": 0.1}


@pytest.fixture(autouse=True, scope="module")
def few_questions() -> Iterator[None]:
    """Two short answers of every model: what is asked is not what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation_set, "QUESTIONS", ("Who?", "Why?"))
        patch.setattr(evaluation_set, "_QUESTION_TOKENS", 3)
        yield


def save_adapter(base: Path, folder: Path, seed: int) -> Path:
    """An adapter that changes much, as peft writes it."""
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    model = get_peft_model(tiny_model("llama", **OPTIONS), config)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, two adapters, and the export of the first of them."""
    folder = tmp_path_factory.mktemp("made")
    base = save_tiny("llama", folder / "base", **OPTIONS)
    for seed, name in enumerate(("adapter", "other")):
        save_adapter(base, folder / name, seed)
    made = api.optimize(str(base), str(folder / "onnx"), adapter_path=str(folder / "adapter"), precision="fp32", limit=4)
    assert made.certificate is not None
    assert made.certificate.passed
    return folder


def certified(made: Path, folder: Path, adapter: str = "adapter") -> Certificate:
    return recheck(folder, str(made / "base"), adapter_path=made / adapter, max_rows=4)


def changed(made: Path, to: Path, change: Callable[[Path], object]) -> Path:
    shutil.copytree(made / "onnx", to)
    change(to)
    return to


def flip_one_weight(folder: Path) -> None:
    """The sign of one weight in the middle of the data file."""
    import onnx

    graph = onnx.load(str(folder / "model.onnx"), load_external_data=False).graph
    stored = next(one for one in graph.initializer if one.name == "model.layers.1.mlp.down_proj.MatMul.weight")
    start = int(next(entry.value for entry in stored.external_data if entry.key == "offset"))
    with open(folder / "model.onnx.data", "r+b") as file:
        file.seek(start + 4 * 100 + 3)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0x80]))


def edit_json(file: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def change_template(folder: Path) -> None:
    edit_json(folder / "template.json", lambda content: content.update(chat_template="{{ messages[0]['content'] }}"))


def change_chat_template(folder: Path) -> None:
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text(encoding="utf-8").replace("<|im_start|>assistant", "<|im_start|>bot"), encoding="utf-8")


def forget_to_stop(folder: Path) -> None:
    edit_json(folder / "genai_config.json", lambda content: content["model"].update(eos_token_id=0))


def change_tokenizer(folder: Path) -> None:
    edit_json(folder / "tokenizer.json", lambda content: content["model"]["merges"].pop(0))


def test_an_untouched_export_passes_again(made: Path) -> None:
    found = certified(made, made / "onnx")
    assert found.failures == ()
    assert [stage.name for stage in found.stages][-1] == "onnx-fp32"
    assert found.stages[-1].greedy_equal == 1


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (
            flip_one_weight,
            ("model.onnx.data was changed after it was certified", "the weights of layer model.layers.1.mlp.down_proj.weight are"),
        ),
        (change_template, ("its template is not that of training: it writes",)),
        (change_chat_template, ("the chat template in export is not that of training",)),
        (forget_to_stop, ("genai_config.json stops at <|endoftext|>, but training stopped at <|im_end|>: <|im_end|> is missing",)),
        (change_tokenizer, ("check prompts become other token ids than in training",)),
    ],
)
def test_each_harm_is_named(made: Path, tmp_path: Path, harm: Callable[[Path], object], words: tuple[str, ...]) -> None:
    found = certified(made, changed(made, tmp_path / "export", harm))
    assert all(failure.startswith("onnx-fp32: ") for failure in found.failures)
    for expected in words:
        assert any(expected in failure for failure in found.failures), found.failures


def test_a_swapped_adapter_is_named(made: Path) -> None:
    found = certified(made, made / "onnx", adapter="other")
    assert any("it was exported from another adapter than that of" in failure for failure in found.failures)
    assert any("the likeliest token is the tuned model's at" in failure for failure in found.failures)
    assert any("the weights of layer model.layers" in failure for failure in found.failures)


@pytest.mark.parametrize("harm", [flip_one_weight, forget_to_stop])
def test_what_is_harmed_while_it_is_made_gets_no_name(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], harm: Callable[[Path], object]
) -> None:
    from tunesmith.export import optimize

    build = optimize.build_decoder

    def build_and_harm(source: Any, folder: Path, recipe: Any) -> None:
        build(source, folder, recipe)
        harm(folder)

    monkeypatch.setattr(optimize, "build_decoder", build_and_harm)
    words = [str(made / "base"), "-a", str(made / "adapter"), "-o", str(tmp_path / "out"), "--precision", "fp32", "--limit", "4"]
    assert main(["auto-opt", *words]) == 1
    printed = capsys.readouterr()
    assert "Lost: onnx-fp32: " in printed.out  # the table of all stages
    assert "tunesmith: error: onnx-fp32: " in printed.err
    assert list(tmp_path.iterdir()) == []
    taken = api.optimize(
        str(made / "base"), str(tmp_path / "out"), adapter_path=str(made / "adapter"), precision="fp32", limit=4, accept_loss=True
    )
    certificate = json.loads((taken.folder / "manifest.json").read_text(encoding="utf-8"))["certificate"]
    assert certificate["accepted_loss"] is True
    assert certificate["failures"]


def test_the_command_prints_the_table_and_fails(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(made / "base"), "-a", str(made / "adapter"), "--limit", "4"]
    assert main(["certify", str(made / "onnx"), *words]) == 0
    assert "Nothing was lost beyond the tolerances." in capsys.readouterr().out
    harmed = changed(made, tmp_path / "export", forget_to_stop)
    assert main(["certify", str(harmed), *words, "--json"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["passed"] is False
    assert "error: onnx-fp32: genai_config.json" in printed.err
    assert len([line for line in printed.err.splitlines() if "error:" in line]) == 1


@pytest.mark.parametrize(("folder", "words"), [("base", "base is not a folder that auto-opt made"), ("nothing", "nothing does not exist")])
def test_what_is_no_export_is_refused(made: Path, folder: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        recheck(made / folder, str(made / "base"))
