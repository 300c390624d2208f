"""Benchmarks: tasks of EleutherAI's lm-eval, and task files of one's own, asked of any runtime that writes text.

lm-eval brings the questions and the metrics; the answers are ours. Prompts are continued as plain text, without the template of training,
as published figures are made.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.data.templates import Template
from tunesmith.errors import DataError, DependencyError, UsageError, UserError, nearest
from tunesmith.evaluate.evaluation import Evaluation
from tunesmith.evaluate.predictions import written_whole
from tunesmith.evaluate.speed import model_size

if TYPE_CHECKING:
    from tunesmith.runtime.protocol import Runtime

log = logging.getLogger(__name__)

#: Tokens of an answer where a task doesn't say (lm-eval's own default).
_MAX_NEW_TOKENS = 256


class Harness:
    """The tasks that lm-eval knows.

    Args:
        include_path: a folder of task files (YAML) of one's own.

    Raises:
        DependencyError: when lm-eval is not installed.
        UsageError: when the folder is missing.
    """

    def __init__(self, include_path: str | Path | None = None) -> None:
        if include_path is not None and not Path(include_path).expanduser().is_dir():
            raise UsageError(f"--include_path {include_path} is no folder", fix="Name the folder with the task files")
        try:
            from lm_eval.tasks import TaskManager
        except ImportError as error:
            raise DependencyError("lm-eval", "eval", purpose="--benchmarks") from error
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        self._own = None if include_path is None else str(Path(include_path).expanduser())
        # lm-eval's own task files are thousands, so they are looked at only when a task isn't among the user's
        self.manager = TaskManager(include_path=self._own, include_defaults=self._own is None)

    def check(self, tasks: Sequence[str]) -> None:
        """Refuse tasks that don't exist.

        Raises:
            UsageError: naming the nearest one.
        """
        if not tasks:
            raise UsageError("--benchmarks names no task", fix="For example: --benchmarks hellaswag,arc_easy")
        if self._own is not None and not set(tasks) <= set(self.manager.all_tasks):
            from lm_eval.tasks import TaskManager

            self.manager = TaskManager(include_path=self._own)
        known = list(self.manager.all_tasks)
        for task in tasks:
            if task not in known:
                fix = nearest(task, known) or "Name one of lm-eval's, or the folder of your own with --include_path"
                raise UsageError(f"there is no benchmark '{task}' among the {len(known):,} that lm-eval knows", fix=fix)

    def run(
        self,
        runtime: Runtime,
        tasks: Sequence[str],
        *,
        limit: int | None = None,
        num_fewshot: int | None = None,
        batch_size: int | None = None,
        predictions_file: Path | None = None,
    ) -> Evaluation:
        """Ask a model the questions of tasks.

        Args:
            runtime: of a model that writes text.
            tasks: their names; checked.
            limit: questions of each task at most.
            num_fewshot: solved examples before each question; None for what the task says.
            batch_size: answers generated at once.
            predictions_file: where to write questions and answers, as JSON lines.

        Returns: figures as ``task/metric``, lm-eval's standard errors as ``task/metric_stderr``.
        Raises:
            DataError: when a task's data can't be read.
            UsageError: for a model with a head.
        """
        if runtime.task.head:
            raise UsageError(f"this model has a head for {runtime.task.name} and writes no text, so benchmarks can't be asked")
        from lm_eval import simple_evaluate

        try:
            found = simple_evaluate(
                model=_harness_model(runtime, batch_size),
                tasks=list(tasks),
                limit=limit,
                num_fewshot=num_fewshot,
                task_manager=self.manager,
                bootstrap_iters=1000,
                log_samples=predictions_file is not None,
            )
        except UserError:
            raise
        except Exception as error:  # lm-eval and its readers raise whatever they meet in task files and data
            lines = str(error).strip().splitlines() or [type(error).__name__]
            fix = "Check the task file and its data; without a network the data has to be on this machine"
            raise DataError(f"the benchmarks {', '.join(tasks)} can't be run: {lines[0]}", fix=fix) from error
        if predictions_file is not None:
            _write_samples(predictions_file, found["samples"])
        num_rows = sum(counts["effective"] for counts in found["n-samples"].values())
        return Evaluation("benchmarks", _figures(found["results"]), num_rows, predictions_file=predictions_file, speed=model_size(runtime))


def _figures(results: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return lm-eval's figures; its names are ``metric,filter``, and the filter ``none`` needs no mention."""
    figures = {}
    for task, values in results.items():
        for key, value in values.items():
            name, _, filtered = key.partition(",")
            if filtered and isinstance(value, (int, float)):
                figures[f"{task}/{name}" + (f" ({filtered})" if filtered != "none" else "")] = float(value)
    return figures


def _write_samples(file: Path, samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    with written_whole(file) as lines:
        for task, found in samples.items():
            for sample in found:
                line = {"task": task, "row": sample["doc_id"], "input": sample["arguments"], "references": [sample["target"]]}
                lines.write(json.dumps({**line, "output": sample["filtered_resps"]}, ensure_ascii=False, default=str) + "\n")


def _harness_model(runtime: Runtime, batch_size: int | None) -> Any:
    """Return what lm-eval asks: an ``LM`` around a runtime."""
    from lm_eval.api.model import LM

    class RuntimeModel(LM):  # type: ignore[misc]
        """lm-eval's questions, put to a runtime."""

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            """Score continuations; an empty context is the token that begins a text."""
            plain = runtime.with_template(_plain())
            pairs = [(context or _beginning(runtime), continuation) for context, continuation in (request.args for request in requests)]
            return [(found.log_prob, found.greedy) for found in plain.log_likelihoods(pairs)]

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            """Score whole texts behind the token that begins a text."""
            plain = runtime.with_template(_plain())
            return [found.log_prob for found in plain.log_likelihoods([(_beginning(runtime), request.args[0]) for request in requests])]

        def generate_until(self, requests: list[Any]) -> list[str]:
            """Generate greedily up to one of the texts that end an answer."""
            alike: dict[tuple[tuple[str, ...], int], list[int]] = defaultdict(list)
            for place, request in enumerate(requests):
                alike[_settings(request.args[1])].append(place)
            answers: dict[int, str] = {}
            for (until, most), places in alike.items():
                plain = runtime.with_template(_plain(until))
                contexts = [requests[place].args[0] for place in places]
                found = plain.generate(contexts, max_new_tokens=most, batch_size=batch_size)
                answers.update((place, answer.text) for place, answer in zip(places, found, strict=True))
            return [answers[place] for place in range(len(requests))]

    return RuntimeModel()


def _plain(stop: tuple[str, ...] = ()) -> Template:
    """Return the template that continues a text as it is."""
    return Template(kind="text", text="{text}", answer_column="text", stop_tokens=stop)


def _beginning(runtime: Runtime) -> str:
    return str(runtime.tokenizer.bos_token or runtime.tokenizer.eos_token or "")


def _settings(given: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    """Return what ends an answer, and its most tokens.

    Raises:
        UsageError: for a task that wants answers drawn at random.
    """
    if given.get("do_sample") and given.get("temperature", 1):
        raise UsageError(
            "a benchmark asks for sampled answers, but only greedy ones can be compared", fix="Set do_sample: false in its file"
        )
    until = given.get("until") or ()
    return (until,) if isinstance(until, str) else tuple(until), int(given.get("max_gen_toks") or _MAX_NEW_TOKENS)
