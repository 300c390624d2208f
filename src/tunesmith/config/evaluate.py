"""The options of ``tunesmith evaluate``."""

from __future__ import annotations

from tunesmith.config.declare import option
from tunesmith.config.generate import adapter_path_option
from tunesmith.config.model import ModelOptions, threads_option

DATA, METRICS, BENCHMARKS, RESULT = "Test set", "Measuring", "Benchmarks", "Result"


class EvaluateOptions(ModelOptions):
    """What ``tunesmith evaluate`` can be told."""

    adapter_path: str | None = adapter_path_option()
    threads: int | None = threads_option()
    data_files: tuple[str, ...] | None = option(
        None,
        "Files of the test set, with the columns of training and the right answers.",
        group=DATA,
        metavar="FILE",
        default_text="the rows that the run held out",
    )
    limit: int | None = option(
        None, "Measure the first N rows only; of a benchmark, of each task.", group=DATA, at_least=1, default_text="all"
    )
    reference_column: str | None = option(
        None, "Column of the right answer, or of a list of them.", group=DATA, metavar="COLUMN", default_text="that of training"
    )
    map_columns: dict[str, str] | None = option(None, "Rename columns before anything else.", group=DATA, metavar="OLD=NEW")
    text_template: str | None = option(
        None,
        "How a row becomes a prompt, for a model that was not tuned here: text with {column} placeholders.",
        group=DATA,
        metavar="TEXT",
    )
    metrics: tuple[str, ...] | None = option(
        None,
        "Names, or file.py:function for one of your own; latency, throughput and size are measured too.",
        group=METRICS,
        metavar="NAME",
        default_text="those usual for the task",
    )
    labels: tuple[str, ...] | None = option(
        None, "Labels to choose among, for a model that writes text and was not trained on labels.", group=METRICS, metavar="LABEL"
    )
    max_new_tokens: int = option(256, "Where an answer that doesn't end by itself is cut.", group=METRICS, at_least=1)
    batch_size: int | None = option(None, "Rows asked together.", group=METRICS, at_least=1, default_text="by length")
    constrain: bool = option(True, "Hold answers to the schema, or the labels, that the model was trained on.", group=METRICS)
    benchmarks: tuple[str, ...] | None = option(
        None, "Tasks of lm-eval (extra 'eval') in place of a test set.", group=BENCHMARKS, metavar="TASK"
    )
    include_path: str | None = option(None, "Folder of task files (YAML) of your own for --benchmarks.", group=BENCHMARKS, metavar="FOLDER")
    num_fewshot: int | None = option(
        None, "Solved examples before each question of a benchmark.", group=BENCHMARKS, at_least=0, default_text="as the task says"
    )
    output_path: str | None = option(
        None, "Folder for predictions.jsonl and metrics.json.", group=RESULT, short="o", metavar="FOLDER", default_text="nothing is written"
    )
    overwrite: bool = option(False, "Replace the files of an earlier evaluation in --output_path.", group=RESULT)
