"""What the files in the folder of a run are called: training writes them, the judge and the report read them and add theirs."""

from __future__ import annotations

#: How training went, a line an evaluation or a logged step.
METRICS = "metrics.jsonl"
#: The model card.
MODEL_CARD = "README.md"
#: Training rows that don't fit into ``--max_seq_len``.
CUT_ROWS = "cut_rows.jsonl"
#: Rows that training never saw.
HELD_OUT = "held_out.jsonl"

#: Whether it was worth it, and what the tuned model and its base answered to the held-out rows.
VERDICT = "verdict.json"
PREDICTIONS, BASE_PREDICTIONS = "predictions.jsonl", "predictions_base.jsonl"
#: The page that tells all this.
REPORT = "report.html"

#: Everything that speaks of a finished run, and is wrong of the next one in the same folder.
OF_FINISHED_RUN = (METRICS, MODEL_CARD, CUT_ROWS, HELD_OUT, VERDICT, PREDICTIONS, BASE_PREDICTIONS, REPORT)
