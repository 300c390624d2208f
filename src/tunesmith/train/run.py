"""A run between its steps: load, train, save and say how it went; tried again where that helps."""

from __future__ import annotations

import gc
import logging
import shlex
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.trainer_utils import set_seed

from tunesmith.artifact import Manifest, hash_folder, installed_versions
from tunesmith.config.finetune import FinetuneOptions
from tunesmith.config.resolve import Resolved
from tunesmith.errors import ResumeError, TrainingError, TunesmithError
from tunesmith.hardware import detect
from tunesmith.methods.adapters import load_adapter
from tunesmith.methods.added_tokens import add_token_rows, train_token_rows
from tunesmith.methods.dequantized import count_parameters
from tunesmith.methods.heads import train_head
from tunesmith.methods.protocol import Method
from tunesmith.models.precision import choose_dtype
from tunesmith.models.sources import ModelSource
from tunesmith.models.structure import is_causal
from tunesmith.run_folder import CUT_ROWS
from tunesmith.train import checkpoints, results, words
from tunesmith.train.answers import Answer, Example, SampleAnswers
from tunesmith.train.choices import seed_of
from tunesmith.train.estimate import MemoryEstimate, OutOfMemory, advice, estimate_memory, is_out_of_memory
from tunesmith.train.fast import accelerate_model, restore_model
from tunesmith.train.held_out import write_held_out
from tunesmith.train.inputs import Inputs
from tunesmith.train.results import FinetuneResult
from tunesmith.train.resume import check_same_run, run_record
from tunesmith.train.session import Outcome, finished_outcome, train
from tunesmith.train.settings import Plan, decided_by, make_plan
from tunesmith.train.settle import settle
from tunesmith.train.start_adapter import start_folder
from tunesmith.train.task_choice import metrics_of
from tunesmith.train.teacher import load_teacher
from tunesmith.train.trainer import NonFiniteLoss, StepSettings

log = logging.getLogger(__name__)

# More tokens in one forward pass make nothing faster on a CPU (its matrix products are saturated below 1,000 rows) and only raise the peak.
MOST_TOKENS = 4096


class Run:
    """A run between its steps: what was read, how it is trained, and the folder it goes to."""

    def __init__(
        self,
        resolved: Resolved[FinetuneOptions],
        folder: Path,
        source: ModelSource,
        tokenizer: Any,
        inputs: Inputs,
        method: Method,
        answer: Answer | None,
        cut_rows: Path,
    ) -> None:
        self.resolved, self.options, self.folder = resolved, resolved.options, folder
        self.source, self.tokenizer, self.inputs, self.method = source, tokenizer, inputs, method
        self.answers = SampleAnswers(inputs, tokenizer, answer, shown=self.options.show_answers)
        self.metrics = metrics_of(self.options, inputs.task, validated=inputs.validation is not None)
        self.cut_rows = cut_rows
        self.checkpoints = folder / "checkpoints"
        self.training = dict(self.options.training)

    def run(self) -> FinetuneResult:
        """Train, with one retry from the last checkpoint when a loss is not a number, and halved batches when memory runs out."""
        made_folder = not self.folder.exists()
        resume_from = self.open_folder()
        retried = False
        try:
            while True:
                try:
                    return self.train_once(resume_from)
                except NonFiniteLoss as error:
                    if retried:
                        raise TrainingError(
                            f"{error}; a second try from the last good state ended the same way",
                            fix="Look at these rows, or lower --learning_rate.",
                        ) from error
                    retried = True
                    resume_from = checkpoints.last_checkpoint(self.checkpoints)
                    place = f"step {checkpoints.step_of(resume_from)}" if resume_from else "the start"
                    log.warning("%s; trying once more from %s", error, place)
                except OutOfMemory as error:
                    if not self.options.auto_batch or error.batch_size < 2:
                        raise TrainingError(error.message, fix="Or let --auto_batch find a batch that fits.") from error
                    self.halve_batch(error.batch_size)
                    resume_from = None
                gc.collect()
        except (TunesmithError, KeyboardInterrupt):
            if made_folder and checkpoints.last_checkpoint(self.checkpoints) is None:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def open_folder(self) -> Path | None:
        """Make the run's folder, or find the checkpoint to go on from.

        Raises:
            ResumeError: when there is nothing to resume, or the configuration or data is another one.
        """
        record = run_record(self.resolved, self.inputs.data_hash)
        if self.options.resume:
            before = checkpoints.read_run_file(self.checkpoints)
            if before is None:
                raise ResumeError(f"{self.folder} has no run to resume", fix="Start it without --resume.")
            if (self.folder / "manifest.json").is_file():
                raise ResumeError(f"the run in {self.folder} is finished", fix="Use its result, or start afresh with --overwrite.")
            check_same_run(before, record)
            checkpoints.remove_unfinished(self.folder)
            last = checkpoints.last_checkpoint(self.checkpoints)
            log.info("Resuming at step %s.", checkpoints.step_of(last) if last else "0: no checkpoint had been written")
            return last
        results.clear(self.folder)
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        checkpoints.write_run_file(self.checkpoints, record)
        if self.cut_rows.is_file():
            shutil.copy(self.cut_rows, self.folder / CUT_ROWS)
            log.info("Rows that are cut or dropped are listed in %s.", self.folder / CUT_ROWS)
        return None

    def train_once(self, resume_from: Path | None) -> FinetuneResult:
        """Load the model, train it, save what came out."""
        options = self.options
        if options.teacher and self.inputs.task.teacher is None:
            self.inputs.task.teacher = load_teacher(options, self.inputs.task, self.tokenizer)
        set_seed(seed_of(self.training))  # adapters start from random matrices, the same in every run with the same seed
        model = self.method.load_base(
            self.source,
            dtype=self.base_dtype(),
            device=options.device,
            trust_remote_code=options.trust_remote_code,
            task=self.inputs.task.head,
        )
        config, num_parameters = model.config, count_parameters(model)
        new_tokens = add_token_rows(model, len(self.tokenizer))
        self.method = train_token_rows(self.method, new_tokens)
        method = train_head(self.method, model) if self.inputs.task.record.head else self.method
        start = start_folder(options)
        trained = method.apply(model) if start is None else load_adapter(model, start, trainable=True)
        device = next(trained.parameters()).device
        plan = make_plan(
            self.training,
            checkpoints=self.checkpoints,
            num_rows=len(self.inputs.train.dataset),
            num_validation=len(self.inputs.validation.dataset) if self.inputs.validation else 0,
            learning_rate=self.method.learning_rate(num_parameters),
            patience=options.early_stopping_patience,
            use_cpu=device.type == "cpu",
        )
        plan = decided_by(plan, self.metrics, given=self.training)
        tricks: list[str] = []
        if is_causal(trained) and not config.is_encoder_decoder:  # what is fast about encoders is in transformers already
            tricks = accelerate_model(trained)
        settings, estimate = self.step_settings(trained, config, plan, device)
        for line in words.plan(self.resolved, self.source, self.inputs, self.method, plan, estimate, trained, self.folder):
            log.info("%s", line)
        log.debug("Tricks applied: %s", ", ".join(tricks) or "none")
        before = self.answers.of(trained)
        outcome = self.finished(trained, plan) if resume_from else None
        if outcome is None:
            try:
                outcome = train(
                    trained,
                    self.inputs.train,
                    self.inputs.validation,
                    plan,
                    settings,
                    run_folder=self.folder,
                    logging_dir=Path(options.logging_dir).expanduser() if options.logging_dir else self.folder / "logs",
                    resume_from=resume_from,
                    command=self.resume_command(),
                    task=self.inputs.task,
                    metrics=self.metrics if self.inputs.task.record.head else (),
                    generation_metrics=None
                    if self.inputs.template is None
                    else self.answers.metrics(trained, self.metrics, exact=options.eval_generate),
                )
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if is_out_of_memory(error):
                    raise self.out_of_memory(estimate, plan) from error
                raise
        examples = self.answers.examples(before, self.answers.of(trained))
        settle(trained, self.inputs.task, self.inputs.validation, settings)
        restore_model(trained)
        return self.save(trained, method, plan, outcome, examples, resized=bool(new_tokens))

    def base_dtype(self) -> str:
        """The frozen weights' type; ``--bf16`` and ``--fp16`` of the training arguments mean the same as ``--torch_dtype``."""
        if self.options.torch_dtype != "auto":
            return self.options.torch_dtype
        return "bfloat16" if self.training.get("bf16") else "float16" if self.training.get("fp16") else "auto"

    def step_settings(self, model: nn.Module, config: Any, plan: Plan, device: torch.device) -> tuple[StepSettings, MemoryEstimate]:
        """How a step is computed, and the memory it is expected to take."""
        checkpointing = bool(plan.arguments.get("gradient_checkpointing") or plan.arguments.get("activation_checkpointing"))
        compute = choose_dtype(self.base_dtype(), detect(gpus=device.type != "cpu"), device=device.type)[0]
        wide = any(parameter.dtype == torch.float32 and not parameter.requires_grad for parameter in model.parameters())
        autocast = compute if compute != torch.float32 and (wide or not self.method.saves_adapter) else None
        longest = int(self.inputs.train.lengths().max())
        tokens = min(plan.arguments["per_device_train_batch_size"] * longest, self.options.max_tokens_per_batch or MOST_TOKENS)
        estimate = estimate_memory(
            model, config, tokens=max(tokens, longest), checkpointing=checkpointing, activation_bytes=2 if compute != torch.float32 else 4
        )
        return StepSettings(
            max_tokens=self.options.max_tokens_per_batch or MOST_TOKENS,
            pad_token_id=self.tokenizer.pad_token_id,
            group_by_length=self.options.group_by_length,
            autocast=autocast,
            keep_checkpoints=plan.arguments.get("save_total_limit") or 2,
            best_metric=plan.best_metric,
            greater_is_better=plan.greater_is_better,
        ), estimate

    def finished(self, model: nn.Module, plan: Plan) -> Outcome | None:
        """The outcome of a training that was over when the run was killed; its weights are loaded into ``model``."""
        reason = checkpoints.finished_reason(self.checkpoints)
        last = checkpoints.last_checkpoint(self.checkpoints)
        if reason is None or last is None:
            return None
        return finished_outcome(model, self.checkpoints, last, plan, reason)

    # Trouble

    def out_of_memory(self, estimate: MemoryEstimate, plan: Plan) -> OutOfMemory:
        """What to tell the user, or, with ``--auto_batch``, the order to try again with half the batch."""
        batch = int(plan.arguments["per_device_train_batch_size"])
        hint = advice(
            estimate, batch_size=batch, checkpointing=bool(plan.arguments.get("gradient_checkpointing")), method=self.options.method
        )
        return OutOfMemory(f"memory ran out at {estimate}; {hint}", batch_size=batch)

    def halve_batch(self, batch_size: int) -> None:
        """Halve the batch and double accumulation: the same step, in smaller pieces."""
        self.training["per_device_train_batch_size"] = batch_size // 2
        self.training["gradient_accumulation_steps"] = 2 * int(self.training.get("gradient_accumulation_steps", 1))
        log.warning("memory ran out with batches of %d; going on with %d and twice the accumulation", batch_size, batch_size // 2)

    def resume_command(self) -> str:
        """What to type to go on."""
        return f"tunesmith finetune --resume --output_path {shlex.quote(str(self.folder))}"

    # Results

    def save(
        self, model: nn.Module, method: Method, plan: Plan, outcome: Outcome, examples: list[Example], *, resized: bool
    ) -> FinetuneResult:
        """Write the results and say how it went; ``resized``: the base has rows for added tokens, so links to its files won't do."""
        template = self.inputs.template
        metrics = results.metrics_of(outcome.history, outcome.kept_step)
        told = words.outcome(metrics, outcome, plan)
        write_held_out(self.folder, self.inputs.held_out)
        record = self.resolved.record()
        for name, value in plan.chosen.items():
            record[name] = {"value": value, "source": "chosen"}
        manifest = Manifest(
            kind="finetune",
            task=self.inputs.task.record.name,
            method=self.method.name,
            base=self.source.name,
            parent_hash=hash_folder(self.source.folder),
            data_hash=self.inputs.data_hash,
            template=template.to_dict() if template else {},
            stop_tokens=template.stop_tokens if template else (),
            versions=installed_versions(),
            seed=int(plan.arguments["seed"]),
            grid=self.method.grid(),
            options=record,
            metrics=dict(metrics),
        )
        results.save_results(
            model,
            method,
            source=self.source,
            tokenizer=self.tokenizer,
            template=template,
            task=self.inputs.task.record,
            head=self.inputs.task.head,
            folder=self.folder,
            manifest=manifest,
            words=told,
            examples=examples,
            resized=resized,
        )
        adapter = self.folder / "adapter"
        return FinetuneResult(
            output_path=self.folder,
            adapter_path=adapter if self.method.saves_adapter else None,
            model_path=self.folder / "model",
            metrics=metrics,
            steps=outcome.steps,
            kept_step=outcome.kept_step,
            words=tuple(told),
            examples=tuple(examples),
            training_s=outcome.training_s,
            peak_memory_gib=outcome.peak_gib,
            writes_text=not self.inputs.task.record.head,
        )
