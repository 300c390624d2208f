"""One flat function a capability; the command line and other programs call these.

Each file has the functions of one capability, and is cheap to import: what is heavy is imported where it is used.
"""

from __future__ import annotations

from tunesmith.api.answering import chat, generate, load, read_schema
from tunesmith.api.benching import bench, tune_session_params
from tunesmith.api.certifying import certify
from tunesmith.api.data_reading import check_data, preview_data, read_rows
from tunesmith.api.data_writing import augment_data, clean_data, convert_data, split_data
from tunesmith.api.evaluation import evaluate, evaluate_benchmarks, evaluate_model
from tunesmith.api.exporting import optimize
from tunesmith.api.merging import merge
from tunesmith.api.rating import rate, rating_summary
from tunesmith.api.recovering import recover
from tunesmith.api.reporting import compare, diagnose, report
from tunesmith.api.training import finetune

__all__ = [
    "augment_data",
    "bench",
    "certify",
    "chat",
    "check_data",
    "clean_data",
    "compare",
    "convert_data",
    "diagnose",
    "evaluate",
    "evaluate_benchmarks",
    "evaluate_model",
    "finetune",
    "generate",
    "load",
    "merge",
    "optimize",
    "preview_data",
    "rate",
    "rating_summary",
    "read_rows",
    "read_schema",
    "recover",
    "report",
    "split_data",
    "tune_session_params",
]
