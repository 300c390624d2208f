"""A model against a test set, whatever the task; what can't be measured is refused in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import sacrebleu

from tiny_models import tiny_model, tiny_tokenizer
from tunesmith.data.task_file import TaskRecord
from tunesmith.data.templates import Template
from tunesmith.errors import DataError, UsageError, UserError
from tunesmith.evaluate import evaluation as module
from tunesmith.evaluate.evaluation import Evaluation, evaluate
from tunesmith.evaluate.predictions import Spool, written_whole
from tunesmith.evaluate.tagging import bio_tags
from tunesmith.runtime.embedder import EmbedderRuntime
from tunesmith.runtime.protocol import Answer, Choice, Span
from tunesmith.runtime.tagger import TaggerRuntime
from tunesmith.runtime.torch_runtime import TorchRuntime

TEXT = Template(kind="text", text="{text}\nLabel: {label}", task="text-classification", answer_column="label", stop_tokens=("<|im_end|>",))
QUESTIONS = Template(kind="text", text="Q: {question}\nA: {answer}", answer_column="answer", stop_tokens=("<|im_end|>",))


class Scripted(TorchRuntime):
    """A tiny model whose answers are written down: the value of the row's column ``says``."""

    asked: int = 0

    def generate(self, prompts: Sequence[Any], **settings: Any) -> list[Answer]:
        type(self).asked += len(prompts)
        return [Answer(str(row["says"]), not str(row["says"]).endswith("…"), 3) for row in prompts]

    def choose(self, prompts: Sequence[Any], labels: Sequence[str] | None = None, *, probabilities: bool = True) -> list[Choice]:
        known = tuple(labels or self.task.labels)
        return [
            Choice((row["says"],), tuple(0.8 if label == row["says"] else 0.2 / (len(known) - 1) for label in known)) for row in prompts
        ]


def scripted(template: Template = QUESTIONS, task: TaskRecord | None = None) -> Scripted:
    return Scripted(tiny_model("llama"), tiny_tokenizer(), template, task)


LABELLED = [{"text": f"text {n}", "label": "ab"[n % 2], "says": "abb"[n % 3]} for n in range(12)]
CLASSES = TaskRecord("text-classification", labels=("a", "b"), label_column="label")


def test_labels_are_chosen_and_measured(tmp_path: Path) -> None:
    found = evaluate(scripted(TEXT, CLASSES), LABELLED, predictions_file=tmp_path / "p.jsonl")
    right = [float(row["label"] == row["says"]) for row in LABELLED]
    assert (found.task, found.num_rows, found.rows["accuracy"]) == ("text-classification", 12, right)
    assert found.metrics["accuracy"] == pytest.approx(sum(right) / 12)
    assert {"f1_macro", "f1[a]", "ece", "brier", "balanced_accuracy"} <= set(found.metrics)
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert lines[0] == {
        "row": 1,
        "input": "text 0\nLabel:",
        "references": ["a"],
        "output": "a",
        "score": 1.0,
        "stopped": True,
        "num_tokens": 0,
        "probability": 0.8,
    }
    assert [line["score"] for line in lines] == right
    assert found.speed["num_parameters"] > 1000


def test_labels_may_be_named_for_a_model_that_knows_none() -> None:
    found = evaluate(scripted(TEXT), LABELLED, metrics=["accuracy"], labels=["a", "b"])
    assert (found.metrics["accuracy"], found.words) == (0.5, ())
    found = evaluate(scripted(TEXT), LABELLED, metrics=["accuracy"], labels=["b", "c"])
    assert found.words == ("6 rows have a right label that the model can't choose: it knows 2 others.",)


ASKED = [
    {"question": "one?", "answer": ["yes it is", "yes"], "says": "yes"},
    {"question": "two?", "answer": "no it is not", "says": "no it is…"},
    {"question": "three?", "answer": "", "says": "x"},
]


def test_answers_are_compared_with_all_references(tmp_path: Path) -> None:
    found = evaluate(scripted(), ASKED, metrics=["exact_match", "bleu"], predictions_file=tmp_path / "p.jsonl", max_new_tokens=7)
    assert found.metrics["exact_match"] == 0.5
    columns = [["yes it is", "no it is not"], ["yes", None]]
    assert found.metrics["bleu"] == pytest.approx(sacrebleu.corpus_bleu(["yes", "no it is…"], columns).score)
    assert found.words == (
        "1 rows have no right answer and were left out.",
        "1 of 2 answers were cut at --max_new_tokens 7 or at the end of the context.",
        f"bleu: nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}",
        "1 rows have several right answers; each answer is compared with all of them.",
    )
    assert [json.loads(line)["stopped"] for line in (tmp_path / "p.jsonl").read_text().splitlines()] == [True, False]


def test_perplexity_is_that_of_the_right_answers() -> None:
    runtime = TorchRuntime(tiny_model("llama"), tiny_tokenizer(), QUESTIONS)
    found = evaluate(runtime, ASKED[:2], metrics=["perplexity"])
    scored = runtime.log_likelihoods([(ASKED[0], "yes it is"), (ASKED[1], "no it is not")])
    loss = -sum(one.log_prob for one in scored) / sum(one.num_tokens for one in scored)
    assert found.metrics == {"perplexity": pytest.approx(math.exp(loss))}
    assert found.rows["perplexity"] == pytest.approx([one.log_prob / one.num_tokens for one in scored])


def test_plain_text_has_a_perplexity_and_nothing_else() -> None:
    runtime = TorchRuntime(tiny_model("llama"), tiny_tokenizer(adds_bos=True), Template(kind="text", text="{body}", answer_column="body"))
    rows = [{"body": "the train leaves at seven " * 30}, {"body": "a"}]
    assert list(evaluate(runtime, rows).metrics) == ["perplexity"]
    with pytest.raises(UsageError, match="rouge needs text, which a model for text-generation doesn't give here"):
        evaluate(runtime, rows, metrics=["rouge"])


def test_rows_stream_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more rows are taken than are asked together, before those have been answered."""
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 10)
    monkeypatch.setattr(module, "_LOOKED_AT", 5)
    Scripted.asked = 0
    ahead = []

    def rows() -> Iterator[Mapping[str, Any]]:
        for number in range(95):
            ahead.append(number - Scripted.asked)
            yield {"question": "q", "answer": str(number % 2), "says": "1"}

    found = evaluate(scripted(), rows(), metrics=["exact_match"])
    assert (found.num_rows, found.metrics["exact_match"]) == (95, pytest.approx(47 / 95))
    assert max(ahead) <= 10
    assert evaluate(scripted(), rows(), metrics=["exact_match"], limit=12).num_rows == 12


def test_latency_is_measured_when_it_is_named() -> None:
    assert "latency_ms_median" not in evaluate(scripted(), ASKED, metrics=["exact_match"]).speed
    found = evaluate(scripted(), ASKED, metrics=["exact_match", "latency"])
    assert found.speed["latency_ms_max"] >= found.speed["latency_ms_median"] > 0
    assert list(found.metrics) == ["exact_match", "exact_match_normalized"]


def test_an_untuned_model_is_asked_as_finetune_would() -> None:
    runtime = scripted(Template(kind="chat", chat_template=str(tiny_tokenizer().chat_template), stop_tokens=("<|im_end|>",)))
    found = evaluate(runtime, [{"question": "one?", "answer": "yes", "says": "yes"}], metrics=["exact_match", "perplexity"])
    assert found.metrics["exact_match"] == 1
    assert found.metrics["perplexity"] > 1
    own = evaluate(runtime, [{"x": "one?", "y": "yes", "says": "yes"}], metrics=["exact_match"], text_template="{x} {y}")
    assert own.metrics["exact_match"] == 1


def test_json_answers_know_their_schema() -> None:
    schema = {"type": "object", "required": ["city"]}
    rows = [{"question": "q", "answer": '{"city": "Rome"}', "says": says} for says in ('{"city": "Rome"}', '{"town": "Rome"}')]
    found = evaluate(scripted(QUESTIONS, TaskRecord("extraction", schema=schema)), rows, metrics=["extraction"])
    assert (found.metrics["schema_valid"], found.metrics["json_valid"], found.metrics["field_f1"]) == (0.5, 1, 0.5)


# Heads


class ScriptedTagger(TaggerRuntime):
    def tag(self, texts: Sequence[str], words: Any = None, *, batch_size: int | None = None) -> list[list[Span]]:
        return [[Span(0, 5, "per")] for _ in texts]


def test_tagged_words_and_spans() -> None:
    model: Any = tiny_model("llama")
    runtime = ScriptedTagger(model, tiny_tokenizer(), TaskRecord("token-classification", head=True, labels=("O", "B-per", "I-per")))
    rows: list[dict[str, Any]] = [
        {"tokens": ["Maria", "runs", "."], "tags": ["B-per", "O", "O"]},
        {"tokens": ["Maria", "Luz"], "tags": ["B-per", "I-per"]},
        {"tokens": ["hello"], "tags": ["I-loc"]},
    ]
    found = evaluate(runtime, rows)
    assert found.rows["span_f1"] == [1, 0, 0]
    assert found.metrics["span_f1"] == pytest.approx(1 / 3)
    spans = [{"text": "Maria runs", "spans": [{"start": 0, "end": 5, "label": "per"}]}, {"text": "Maria runs", "spans": []}]
    assert evaluate(runtime, spans).rows["span_f1"] == [1, 0]
    with pytest.raises(DataError, match="2 words in 'tokens', but 1 tags"):
        evaluate(runtime, [{"tokens": ["a", "b"], "tags": ["O"]}])


def test_spans_become_tags_where_they_are_compared() -> None:
    places = [(0, 2), (3, 5), (6, 8)]
    assert bio_tags([Span(0, 5, "x"), Span(6, 8, "x")], places) == ["B-x", "I-x", "B-x"]
    assert bio_tags([Span(0, 4, "x")], places) == ["B-x", "O", "O"]


class ScriptedEmbedder(EmbedderRuntime):
    def similarities(self, prompts: Sequence[Any], *, batch_size: int | None = None) -> list[float]:
        return [float(row["says"]) for row in prompts]


def pairs(labels: Sequence[Any], threshold: float | None = 0.5, *, gold: int = 0, options: Mapping[str, Any] | None = None) -> Evaluation:
    model: Any = tiny_model("llama")
    task = TaskRecord("similarity", head=True, text_columns=("text1", "text2"), label_column="label", threshold=threshold)
    texts = {"text1": "a", "text2": "b", "gold": gold}
    rows = [{**texts, "label": label, "says": says} for label, says in zip(labels, (0.9, 0.4, 0.3, 0.8), strict=True)]
    return evaluate(ScriptedEmbedder(model, tiny_tokenizer(), task), rows, **(options or {}))


def test_pairs() -> None:
    found = pairs([1, True, 0, 0])
    assert (found.metrics["threshold_accuracy"], found.metrics["threshold"], found.metrics["auc"]) == (0.5, 0.5, 0.75)
    assert found.rows["threshold_accuracy"] == [1, 0, 1, 0]
    assert list(pairs([0.9, 0.5, 0.1, 0.7]).metrics) == ["spearman"]
    assert pairs([None] * 4, gold=1, options={"reference_column": "gold", "metrics": ["threshold_accuracy"]}).rows[
        "threshold_accuracy"
    ] == [1, 0, 0, 1]
    with pytest.raises(UsageError, match="--labels has no effect on a model with a head for similarity"):
        pairs([1, 0, 1, 0], options={"labels": ["a"]})
    assert pairs([1, 0, 0, 1], None).metrics["threshold"] == pytest.approx(0.6)


# What is refused


def cost_file(folder: Path, body: str) -> str:
    (folder / "costs.py").write_text(f"def cost(predictions, references):\n    {body}\n")
    return f"{folder / 'costs.py'}:cost"


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([], {}, "the test set has no row"),
        ([{"question": "q", "says": ""}], {}, r"column 'answer' is missing or empty; there is: question, says.*--reference_column"),
        (ASKED, {"reference_column": "gold"}, "column 'gold' is missing or empty"),
        (ASKED, {"metrics": ["acuracy"]}, "Did you mean 'accuracy'"),
        (ASKED, {"metrics": []}, "--metrics names no metric"),
        (ASKED, {"metrics": ["span_f1"]}, r"span_f1 needs tagged spans.*Metrics that fit: accuracy, balanced_accuracy"),
        (ASKED, {"metrics": ["calibration"]}, "needs probabilities of labels"),
        (ASKED, {"metrics": ["extraction"]}, "a reference is no JSON"),
        (ASKED, {"text_template": "{x} {y}"}, "--text_template has no effect"),
        ([{"answer": "x", "other": "y"}], {"metrics": ["perplexity"]}, "rows 1 to 1: .*question"),
        (ASKED, {"metrics": ["return 'x'"]}, "the metric cost returned text"),
        (ASKED, {"metrics": ["raise KeyError('x')"]}, "the metric cost raised KeyError"),
    ],
)
def test_what_is_refused(rows: Any, options: dict[str, Any], words: str, tmp_path: Path) -> None:
    if any(" " in name for name in options.get("metrics", ())):
        options = {"metrics": [cost_file(tmp_path, options["metrics"][0])]}
    with pytest.raises(UserError, match=words) as caught:
        evaluate(scripted(), rows, **options)
    assert "\n" not in str(caught.value)


def test_a_broken_metric_is_found_on_the_first_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 2)
    Scripted.asked = 0
    rows = [{"question": "q", "answer": "x", "says": "x"}] * 20
    with pytest.raises(UsageError, match="returned nothing"):
        evaluate(scripted(), rows, metrics=[cost_file(tmp_path, "pass")])
    assert Scripted.asked == 2


# Files


def test_a_spool_is_a_list() -> None:
    spool = Spool()
    values = ["a", ["x", 1.5], {"k": "ü\n"}, None]
    for value in values:
        spool.append(value)
    assert (list(spool), len(spool), spool[-1], spool[1:3]) == (values, 4, None, values[1:3])
    with pytest.raises(IndexError):
        spool[4]


def test_a_file_appears_when_whole(tmp_path: Path) -> None:
    def interrupted() -> None:
        with written_whole(tmp_path / "x.jsonl") as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
