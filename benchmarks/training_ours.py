"""tunesmith on the common work, by its public function; benchmarks/training.py calls this and reads the JSON line it ends with.

usage: python benchmarks/training_ours.py MODEL_DIR DATA.jsonl --steps 8 --targets q_proj,v_proj [--order FILE]

With --order everything that moves a loss curve is fixed as in benchmarks/training_trl.py, and the order of the rows is written to the file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import transformers.trainer

import tunesmith
from clock import Clock
from tunesmith.train.batching import LengthGroupedBatches
from work import ALPHA, BATCH, COMPLETION, CURVE, NUM_ROWS, PROMPT, RANK


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--targets", default="q_proj,v_proj")
    parser.add_argument("--order", type=Path)
    options = parser.parse_args()
    fixed: dict[str, Any] = {}
    if options.order:
        fixed = {**CURVE, "lr_scheduler_type": "constant", "group_by_length": False}
        batches = LengthGroupedBatches([1] * NUM_ROWS, BATCH, seed=CURVE["seed"], group_by_length=False)
        options.order.write_text(json.dumps([row for batch in batches for row in batch]))
    clock = Clock()
    transformers.trainer.DEFAULT_CALLBACKS.append(clock)
    with tempfile.TemporaryDirectory() as folder:
        tunesmith.finetune(
            str(options.data),
            model_name_or_path=options.model,
            output_path=str(Path(folder) / "out"),
            text_template=PROMPT + COMPLETION,
            train_split=f"train[:{NUM_ROWS}]",
            validation_fraction=0,
            show_answers=0,
            method="lora",
            lora_r=RANK,
            lora_alpha=ALPHA,
            target_modules=options.targets,
            per_device_train_batch_size=BATCH,
            max_steps=options.steps,
            logging_steps=1,
            report_to="none",
            **fixed,
        )
    print(clock.report())


if __name__ == "__main__":
    main()
