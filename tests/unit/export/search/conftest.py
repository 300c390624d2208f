"""A tiny model that has learnt its rows, in a folder like that of a finished run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny_models import learn_by_heart, tiny_model, tiny_tokenizer
from tunesmith.artifact import Manifest, write_manifest
from tunesmith.data.template_file import write_template
from tunesmith.data.templates import Template
from tunesmith.run_folder import HELD_OUT

TEMPLATE = Template(kind="text", text="Q: {question}\nA: {answer}", answer_column="answer", stop_tokens=("<|im_end|>",))
THINGS = (("sky", "blue"), ("grass", "green"), ("blood", "red"), ("snow", "white"))


def colours(count: int) -> list[dict[str, str]]:
    return [{"question": f"Which colour has the {THINGS[n % 4][0]} {n}?", "answer": THINGS[n % 4][1]} for n in range(count)]


@pytest.fixture(scope="session")
def searched_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with 24 held-out rows and 40 others in the file that it was trained on."""
    folder = tmp_path_factory.mktemp("search") / "run"
    rows = colours(64)
    model, tokenizer = tiny_model("smollm", hidden_size=64, intermediate_size=96, initializer_range=0.06), tiny_tokenizer()
    learn_by_heart(model, rows, TEMPLATE, steps=60)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write_template(folder / "model", TEMPLATE)
    data = folder.parent / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / HELD_OUT).write_text("".join(json.dumps(row) + "\n" for row in rows[:24]))
    options = {"data_name": {"value": str(data), "source": "flag"}}
    write_manifest(folder, Manifest(kind="finetune", method="full", base=None, template=TEMPLATE.to_dict(), options=options))
    return folder
