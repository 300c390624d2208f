"""The main job, from options to a run's folder: everything is read and checked, then it is trained."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

from tunesmith.artifact import check_output_folder
from tunesmith.config.finetune import FinetuneOptions
from tunesmith.config.resolve import Resolved
from tunesmith.data.preview import show_examples
from tunesmith.models.load import load_tokenizer
from tunesmith.models.sources import resolve_model
from tunesmith.run_folder import CUT_ROWS
from tunesmith.train.answers import Answer
from tunesmith.train.choices import max_positions, method_of, output_folder, seed_of
from tunesmith.train.fast.allocator import tune_allocator
from tunesmith.train.inputs import read_inputs
from tunesmith.train.results import FinetuneResult
from tunesmith.train.run import Run
from tunesmith.train.task_choice import check_task_options

log = logging.getLogger(__name__)


def run(resolved: Resolved[FinetuneOptions], *, answer: Answer | None = None) -> FinetuneResult:
    """Fine-tune as the options say.

    Args:
        resolved: checked options with the source of each value.
        answer: generates answers; needed for ``show_answers`` and ``eval_generate``.

    Raises:
        UserError: for whatever the user can mend; before training starts nothing has been written then.
    """
    options = resolved.options
    check_task_options(options, resolved.explicit)
    folder = output_folder(options)
    check_output_folder(folder, overwrite=options.overwrite, resume=options.resume)
    source = resolve_model(options.model_name_or_path, revision=options.revision, token=options.token)
    tokenizer = load_tokenizer(source, trust_remote_code=options.trust_remote_code)
    method = method_of(resolved)
    with tempfile.TemporaryDirectory() as temporary:  # the run's folder doesn't exist before everything has been checked
        cut_rows = Path(temporary) / CUT_ROWS
        inputs = read_inputs(
            options,
            resolved.explicit,
            source,
            tokenizer,
            model_max_len=max_positions(source),
            seed=seed_of(options.training),
            report=cut_rows,
        )
        tune_allocator()
        if options.show_examples:
            log.info("%s", show_examples(inputs.train, tokenizer, options.show_examples, color=sys.stderr.isatty()))
        return Run(resolved, folder, source, tokenizer, inputs, method, answer, cut_rows).run()
