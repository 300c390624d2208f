"""TRL on the common work, in its own virtual environment; benchmarks/training.py calls this and reads the JSON line it ends with.

usage: python benchmarks/training_trl.py MODEL_DIR DATA.jsonl --steps 8 --targets q_proj,v_proj [--order FILE]

Without --order it is a plain SFTTrainer with a peft configuration, as TRL's documentation shows it. With --order (row numbers as a JSON
list) the rows come in that order and everything that moves a loss curve is fixed: adapters drawn from seed 42, constant learning rate.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, set_seed
from trl import SFTConfig, SFTTrainer

from clock import Clock
from work import ALPHA, BATCH, CURVE, LINEAR_LAYERS, RANK, load_rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--targets", default="q_proj,v_proj")
    parser.add_argument("--order", type=Path)
    options = parser.parse_args()
    targets = list(LINEAR_LAYERS) if options.targets == "all-linear" else options.targets.split(",")
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, task_type="CAUSAL_LM")
    rows, clock = load_rows(options.data), Clock()
    fixed: dict[str, Any] = {}
    if options.order:
        rows = [rows[index] for index in json.loads(options.order.read_text())]
        fixed = {**CURVE, "lr_scheduler_type": "constant", "train_sampling_strategy": "sequential"}
        set_seed(CURVE["seed"])
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.bfloat16), lora)
    with tempfile.TemporaryDirectory() as folder:
        SFTTrainer(
            model if options.order else options.model,
            args=SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=BATCH,
                max_steps=options.steps,
                logging_steps=1,
                bf16=True,
                use_cpu=True,
                report_to=[],
                save_strategy="no",
                gradient_checkpointing=False,
                model_init_kwargs=None if options.order else {"dtype": torch.bfloat16},
                **fixed,
            ),
            train_dataset=Dataset.from_list(rows),
            peft_config=None if options.order else lora,
            callbacks=[clock],
        ).train()
    print(clock.report())


if __name__ == "__main__":
    main()
