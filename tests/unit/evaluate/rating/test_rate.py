"""From options to a rating: what is asked of the models, what a folder goes on with, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data.templates import Template
from tunesmith.errors import ModelError, UserError
from tunesmith.evaluate.rating.answers import prompt_value
from tunesmith.evaluate.rating.folder import ANSWERS, PROMPTS, RATING, VOTES, read_answers_of, read_rating
from tunesmith.evaluate.rating.prompts import RatingPrompt
from tunesmith.evaluate.rating.rate import prepare, serve
from tunesmith.runtime.protocol import Answer

CHAT = Template(kind="chat", chat_template="x")


@dataclass
class Models:
    """Loads models that answer with their own name; ``broken`` fails at its second batch."""

    loaded: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    broken: str = ""

    def __call__(self, name: str) -> Any:
        self.loaded.append(name)
        models = self

        class Fake:
            template = CHAT

            def generate(self, prompts: Sequence[Any], **sampling: Any) -> list[Answer]:
                models.asked.append({"prompts": list(prompts), **sampling})
                if name == models.broken and len(models.asked) > 2:
                    raise ModelError("out of breath")
                return [Answer(f"{name} to {prompt}", True, 3) for prompt in prompts]

        return Fake()


def stop(link: str) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"question {number}"}) + "\n" for number in range(40)))
    return str(path)


def test_answers_are_made_once_and_kept(prompts: str, tmp_path: Path) -> None:
    folder, models = tmp_path / "ratings", Models()
    prepare(folder, data_files=[prompts], models=["a", "b"], seed=3, sampling={"max_new_tokens": 5, "top_p": None})
    links: list[str] = []
    assert serve(folder, models, ready=lambda link: (links.append(link), stop(link))[0]) is None
    assert models.loaded == ["a", "b"]
    assert {"max_new_tokens": 5, "seed": 3}.items() <= models.asked[0].items()
    assert "top_p" not in models.asked[0]
    assert links[0].startswith("http://127.0.0.1:")
    found = read_answers_of(read_rating(folder))
    assert found[39] == {"a": "a to question 39", "b": "b to question 39"}
    assert serve(folder, models, ready=stop) is None
    assert models.loaded == ["a", "b"], "nothing is answered twice"


def test_a_crash_while_answering_loses_nothing(prompts: str, tmp_path: Path) -> None:
    folder, models = tmp_path / "ratings", Models(broken="b")
    prepare(folder, data_files=[prompts], models=["a", "b"])
    with pytest.raises(ModelError, match="out of breath"):
        serve(folder, models, ready=stop)
    again = Models()
    serve(folder, again, ready=stop)
    assert again.loaded == ["b"]
    assert sum(len(call["prompts"]) for call in again.asked) == 40


def test_an_interrupt_while_answering_says_how_to_go_on(prompts: str, tmp_path: Path) -> None:
    folder = tmp_path / "ratings"
    prepare(folder, data_files=[prompts], models=["a", "b"])

    def interrupted(name: str) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"the answers so far are kept, and tunesmith rate -o .*ratings goes on"):
        serve(folder, interrupted, ready=stop)


def test_what_a_model_is_asked() -> None:
    row, messages = {"text": "t", "label": "l"}, ({"role": "user", "content": "Summarize: t"},)
    prompt = RatingPrompt("shown", messages=messages, row=row)
    assert prompt_value(prompt, CHAT) == list(messages), "a chat model that was not tuned on such rows gets the turns"
    tuned = Template(kind="chat", chat_template="x", format="text-label", columns=(("prompt", "text"), ("answer", "label")))
    assert prompt_value(prompt, tuned) == row, "one that was gets the row"
    other = Template(kind="text", text="{sentence}\n{label}")
    assert prompt_value(prompt, other) == "shown"


def test_files_of_answers(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"input": "q", "output": name}) + "\n")
    files = [str(tmp_path / "x.jsonl"), str(tmp_path / "y.jsonl")]
    assert prepare(tmp_path / "one", answers=files).models == ("x", "y")
    rating = prepare(tmp_path / "two", answers=files, models=["base", "tuned"], scale="1-5")
    assert read_answers_of(rating) == [{"base": "x", "tuned": "y"}]
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "x.jsonl").write_text(json.dumps({"input": "q", "output": "z"}) + "\n")
    same_name = [files[0], str(tmp_path / "deeper" / "x.jsonl")]
    assert prepare(tmp_path / "three", answers=same_name).models == tuple(same_name)


def test_a_folder_is_gone_on_with(prompts: str, tmp_path: Path) -> None:
    folder = tmp_path / "ratings"
    first = prepare(folder, data_files=[prompts], models=["a", "b"], seed=3, sampling={"temperature": 0.5})
    assert prepare(folder) == first
    assert prepare(folder, data_files=[prompts], models=["a", "b"], scale="pairs", seed=3, sampling={"temperature": 0.5}) == first


def test_two_programs_in_one_folder(prompts: str, tmp_path: Path) -> None:
    folder = tmp_path / "ratings"
    prepare(folder, data_files=[prompts], models=["a", "b"])

    def second(link: str) -> None:
        with pytest.raises(UserError, match="another tunesmith rate is at work"):
            serve(folder, Models(), ready=stop)
        stop(link)

    serve(folder, Models(), ready=second)
    serve(folder, Models(), ready=stop)


def test_models_that_agree_leave_nothing_to_rate(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps({"input": "q", "output": "same"}) + "\n")
    prepare(tmp_path / "ratings", answers=[str(file), str(file)], models=["a", "b"])
    with pytest.raises(UserError, match="alike: there is nothing to rate"):
        serve(tmp_path / "ratings", Models(), ready=stop)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "there is no rating in"),
        ({"data_files": ["P"]}, "no models to answer them"),
        ({"models": ["a", "b"]}, "no prompts for them"),
        ({"data_files": ["P"], "models": ["a"]}, "--models names one model"),
        ({"data_files": ["P"], "models": ["a", "a"]}, "--models names a twice"),
        ({"data_files": ["P"], "answers": ["x", "y"]}, "--data_files has no effect"),
        ({"answers": ["x"]}, "--answers names one file"),
        ({"answers": ["x", "y"], "models": ["a", "b", "c"]}, "--models names 3 models, --answers 2 files"),
        ({"answers": ["x", "y"], "max_samples": 3}, "--max_samples speaks of --data_files"),
        ({"answers": ["x", "y"], "sampling": {"top_p": 0.5}}, "--top_p has no effect"),
        ({"text_field": "x"}, "--text_field speaks of --data_files"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], words: str, prompts: str, tmp_path: Path) -> None:
    if "data_files" in options:
        options = {**options, "data_files": [prompts]}
    with pytest.raises(UserError) as caught:
        prepare(tmp_path / "ratings", **options)
    assert words in str(caught.value)
    assert not (tmp_path / "ratings").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data_files": True}, "holds ratings of other prompts (40 of them)"),
        ({"models": ["a", "c"]}, "holds ratings of other models: a, b"),
        ({"scale": "1-5"}, "on the scale pairs, not 1-5"),
        ({"seed": 9}, "another seed than 9"),
        ({"sampling": {"max_new_tokens": 9}}, "answers made with another --max_new_tokens"),
    ],
)
def test_a_folder_with_another_rating(options: dict[str, Any], words: str, prompts: str, tmp_path: Path) -> None:
    prepare(tmp_path / "ratings", data_files=[prompts], models=["a", "b"])
    if "data_files" in options:
        (tmp_path / "other.jsonl").write_text('{"prompt": "another"}\n')
        options = {"data_files": [str(tmp_path / "other.jsonl")]}
    with pytest.raises(UserError) as caught:
        prepare(tmp_path / "ratings", **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (RATING, "{", "is no rating that can be read"),
        (RATING, "[]", "is no rating that can be read"),
        (PROMPTS, '{"text": "other"}\n', "don't belong together"),
        (PROMPTS, '{"words": "other"}\n', "a prompt has no text"),
        (ANSWERS, '{"model": "c", "item": 1, "text": "x"}\n', "line 1 is no answer of this rating"),
        (ANSWERS, '{"model": "a", "item": 41, "text": "x"}\n', "line 1 is no answer of this rating"),
        (VOTES, '{"rater": "Ada", "item": 1, "shown": ["a", "c"], "winner": "a"}\n', "line 1 is no vote of this rating"),
        (VOTES, '{"rater": "Ada", "item": 1, "shown": ["a", "b"], "winner": "c"}\n', "line 1 is no vote of this rating"),
        (VOTES, '{"rater": "Ada", "item": 1, "shown": ["a", "b"]}\n', "line 1 is no vote of this rating"),
        (VOTES, '{"rater": "Ada", "item": 1, "shown": ["a", ["b"]], "winner": "a"}\n', "line 1 is no vote of this rating"),
    ],
)
def test_a_folder_that_was_spoilt(file: str, content: str, words: str, prompts: str, tmp_path: Path) -> None:
    folder = tmp_path / "ratings"
    prepare(folder, data_files=[prompts], models=["a", "b"])
    (folder / file).write_text(content)
    with pytest.raises(UserError) as caught:
        serve(folder, Models(), ready=stop)
    assert words in str(caught.value)


def test_a_folder_of_something_else_is_left_alone(prompts: str, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is not empty"):
        prepare(folder, data_files=[prompts], models=["a", "b"])
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
