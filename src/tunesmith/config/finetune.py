"""The options of ``tunesmith finetune``. Every field of ``transformers.TrainingArguments`` may stand beside them (see ``training``)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tunesmith.config.declare import option
from tunesmith.config.model import ModelOptions

DATA, TASK, METHOD, RUN = "Data", "Task", "Method", "Run"


class FinetuneOptions(ModelOptions):
    """What a fine-tuning run can be told. None means: the command chooses, and says what it chose."""

    data_name: str | None = option(
        None,
        "Training data: hub id, file, folder, sample:NAME, or json, csv, parquet, text together with --data_files.",
        group=DATA,
        short="d",
        metavar="DATA",
    )
    data_files: tuple[str, ...] | None = option(
        None, "Data files: JSON, JSON lines, CSV, TSV, Parquet or text.", group=DATA, metavar="FILE"
    )
    train_subset: str | None = option(None, "Configuration of the data set on the hub, for training.", group=DATA, metavar="NAME")
    train_split: str | None = option(
        None, "Rows to train on, e.g. train, train[:4096], train[80%:].", group=DATA, metavar="SPLIT", default_text="train"
    )
    eval_subset: str | None = option(None, "Configuration of the data set on the hub, for validation.", group=DATA, metavar="NAME")
    eval_split: str | None = option(
        None,
        "Rows to validate on.",
        group=DATA,
        metavar="SPLIT",
        default_text="the data's own validation rows, or some held out of the training rows",
    )
    validation_fraction: float | None = option(
        None,
        "Part of the training rows held out when no validation rows are named; 0 for none.",
        group=DATA,
        at_least=0,
        below=1,
        default_text="0.1",
    )
    max_samples: int | None = option(
        None, "Train on N rows only, drawn at random but always the same.", group=DATA, at_least=1, default_text="all"
    )
    text_template: str | None = option(
        None,
        "Text of an example with {column} placeholders, the last one being the answer; \\n is a line break, {{ and }} are braces.",
        group=DATA,
        metavar="TEXT",
        default_text="recognized from the rows",
    )
    text_field: str | None = option(None, "Column that holds the whole text of an example.", group=DATA, metavar="COLUMN")
    use_chat_template: bool | None = option(
        None,
        "Write examples with the model's chat template.",
        group=DATA,
        default_text="where rows are messages or the model is a chat model",
    )
    chat_template: str | None = option(
        None, "Another chat template: a Jinja file, or the name of a known one.", group=DATA, metavar="FILE|NAME"
    )
    map_columns: dict[str, str] | None = option(
        None, "Rename columns before anything else looks at them: OLD=NEW, several with commas or spaces.", group=DATA, metavar="OLD=NEW"
    )
    train_on_prompt: bool = option(False, "Learn the prompt too, not only the answer.", group=DATA)
    show_examples: int = option(0, "Print N prepared examples before training, masked parts dimmed.", group=DATA, at_least=0)
    max_seq_len: int | None = option(
        None,
        "Longest example in tokens.",
        group=DATA,
        at_least=2,
        default_text="the 99.5th percentile of the examples, at most what the model takes",
    )
    allow_truncation: bool = option(
        False, "Train even when more than 5% of the supervised tokens don't fit into --max_seq_len.", group=DATA
    )

    task: str | None = option(
        None,
        "text-generation, extraction, text-classification, token-classification, summarization or similarity.",
        group=TASK,
        default_text="recognized from the rows",
    )
    head: bool = option(False, "text-classification: put a layer that scores labels on the model, which then writes no text.", group=TASK)
    class_weights: str | None = option(
        None,
        "text-classification: weigh rows by their label: balanced, or a JSON file of label -> weight.",
        group=TASK,
        metavar="balanced|FILE",
    )
    pooling: Literal["mean", "last"] | None = option(
        None, "similarity: the embedding of a text is the mean of its tokens, or the last one.", group=TASK, default_text="mean"
    )
    answer_schema: str | None = option(None, "extraction: a JSON schema of the answers.", group=TASK, metavar="FILE")
    loss: str | None = option(
        None,
        "cross-entropy, label-smoothing, focal, contrastive, distillation, or FILE.py:NAME, a module of your own.",
        group=TASK,
        metavar="NAME",
        default_text="cross-entropy; contrastive for similarity",
    )
    loss_kwargs: dict[str, Any] | None = option(
        None, "What the loss is made with: NAME=VALUE, several with commas or spaces.", group=TASK, metavar="NAME=VALUE"
    )
    teacher: str | None = option(None, "A larger model to learn from, with --loss distillation.", group=TASK, metavar="MODEL")
    task_name: str | None = option(None, "A name of your own for what this adapter does, kept in its manifest.", group=TASK, metavar="NAME")
    eval_generate: bool = option(False, "At every evaluation let the model answer validation prompts, and score the answers.", group=TASK)
    eval_metrics: tuple[str, ...] | None = option(
        None, "More figures at every evaluation, for --metric_for_best_model too.", group=TASK, metavar="NAME"
    )
    verdict: bool = option(
        True, "Say at the end whether the tuned model beats its base and what costs nothing, on rows it has not seen.", group=TASK
    )
    verdict_rows: int | None = option(None, "Rows that the verdict rests on, at most.", group=TASK, at_least=2, default_text="200")
    show_answers: int | None = option(
        None, "Answer N validation prompts before and after training, and print both.", group=TASK, at_least=0, default_text="3"
    )

    method: str = option("lora", "lora, qlora, dora, full, or adapter (bottleneck).", group=METHOD)
    adapter_path: str | None = option(
        None,
        "Go on with this adapter (a run, or its folder 'adapter') in place of a fresh one.",
        group=METHOD,
        metavar="FOLDER",
    )
    lora_r: int | None = option(None, "Rank of the LoRA matrices.", group=METHOD, at_least=1, default_text="16")
    lora_alpha: float | None = option(
        None, "LoRA scale; the update is multiplied by alpha / rank.", group=METHOD, above=0, default_text="32"
    )
    lora_dropout: float | None = option(None, "Dropout in front of the LoRA matrices.", group=METHOD, at_least=0, below=1, default_text="0")
    target_modules: tuple[str, ...] | None = option(
        None, "Layers to adapt: names such as q_proj,v_proj, or all-linear.", group=METHOD, metavar="NAME", default_text="all-linear"
    )
    modules_to_save: tuple[str, ...] | None = option(
        None, "Modules trained and saved in full beside the adapter.", group=METHOD, metavar="NAME"
    )
    use_rslora: bool | None = option(None, "Scale by alpha / sqrt(rank) (rank-stabilized LoRA).", group=METHOD)
    init_lora_weights: bool | str | None = option(
        None, "Start of the LoRA matrices: true (no change at the start), gaussian, pissa, olora …", group=METHOD, default_text="true"
    )
    layers_to_transform: tuple[int, ...] | None = option(
        None, "Numbers of the blocks to adapt, from 0.", group=METHOD, metavar="N", default_text="all"
    )
    quant_type: Literal["auto", "nf4", "onnx-int4", "onnx-int8", "gguf-q4_0"] | None = option(
        None,
        "Grid of the frozen weights with qlora; auto: onnx-int4 on a CPU, nf4 on a GPU; onnx-int8 is larger, gguf-q4_0 for llama.cpp.",
        group=METHOD,
        default_text="auto",
    )
    adapter_reduction_factor: float | None = option(
        None, "Hidden size divided by the bottleneck's width (method adapter).", group=METHOD, at_least=1, default_text="16"
    )
    adapter_placement: Literal["houlsby", "pfeiffer"] | None = option(
        None, "After attention and feed-forward (houlsby), or after the block (pfeiffer).", group=METHOD, default_text="houlsby"
    )

    output_path: str | None = option(
        None, "Folder of the result.", group=RUN, short="o", metavar="FOLDER", default_text="named after model and data"
    )
    overwrite: bool = option(False, "Replace a result that is there already.", group=RUN)
    resume: bool = option(False, "Go on where a stopped run of the same configuration was.", group=RUN)
    early_stopping_patience: int | None = option(
        None, "Stop after this many evaluations without a better validation loss; 0: never.", group=RUN, at_least=0, default_text="3"
    )
    auto_batch: bool = option(False, "Halve the batch and double accumulation when memory runs out.", group=RUN)
    max_tokens_per_batch: int | None = option(
        None, "Most tokens, padding included, in one forward pass.", group=RUN, at_least=1, default_text="4096"
    )
    group_by_length: bool = option(True, "Put examples of like length into a batch.", group=RUN)
    logging_dir: str | None = option(
        None, "Folder for TensorBoard logs.", group=RUN, metavar="FOLDER", default_text="logs inside --output_path"
    )

    training: dict[str, Any] = Field(default_factory=dict)
