"""TRL's SFTTrainer on rows of prompt and completion, for benchmarks/training.py; runs in an environment of its own.

usage: python trl_sft.py MODEL_DIR ROWS.jsonl STEPS TARGETS RANK ALPHA LEARNING_RATE     (rows are taken in the order of the file)
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

BATCH, WARM_UP = 32, 2


class Clock(TrainerCallback):
    """Seconds from the end of the warm-up steps to the end of training."""

    start = end = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == WARM_UP:
            self.start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.end = time.perf_counter()


def main() -> None:
    """Train and print one line of JSON."""
    model, data, steps, targets, rank, alpha, rate = sys.argv[1:8]
    rows = [json.loads(line) for line in Path(data).read_text(encoding="utf-8").splitlines()]
    clock = Clock()
    set_seed(42)
    trainer = SFTTrainer(
        model,
        args=SFTConfig(
            output_dir="trl_out",
            per_device_train_batch_size=BATCH,
            max_steps=int(steps),
            learning_rate=float(rate),
            lr_scheduler_type="constant",
            warmup_steps=0,
            train_sampling_strategy="sequential",
            logging_steps=1,
            bf16=True,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            gradient_checkpointing=False,
            seed=42,
            model_init_kwargs={"dtype": torch.bfloat16},
        ),
        train_dataset=Dataset.from_list([{"prompt": row["prompt"], "completion": row["completion"]} for row in rows]),
        peft_config=LoraConfig(
            r=int(rank),
            lora_alpha=int(alpha),
            target_modules=targets if targets == "all-linear" else targets.split(","),
            task_type="CAUSAL_LM",
        ),
        callbacks=[clock],
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    print(json.dumps({"examples_per_s": BATCH * (int(steps) - WARM_UP) / (clock.end - clock.start), "losses": losses}))


if __name__ == "__main__":
    main()
