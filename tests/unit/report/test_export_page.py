"""The page of an exported folder tells its certificate, and nothing that isn't in its manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.artifact import Manifest, write_manifest
from tunesmith.errors import ModelError
from tunesmith.export.certificate import Certificate
from tunesmith.export.stages import StageScores
from tunesmith.report.export_page import is_export, write_export_report

EXPORT: dict[str, Any] = {"precision": "int4", "provider": "CPUExecutionProvider", "model_files": {"model.onnx": 1_000_000}}
STAGES = (
    StageScores("tuned", "shown", metrics={"exact_match": 0.89}, perplexity=1.06, size_mb=538.0),
    StageScores("quantized", "quantized", max_logit_distance=float("inf"), metrics={"exact_match": 0.76}, perplexity=1.2, size_mb=87.0),
)


def write(folder: Path, certificate: Any, kind: str = "onnx") -> str:
    write_manifest(folder, Manifest(kind=kind, method="lora", base="tiny <b>", extra={"export": EXPORT, "certificate": certificate}))
    return write_export_report(folder).read_text(encoding="utf-8")


def test_the_certificate_is_told(tmp_path: Path) -> None:
    certificate = Certificate(
        STAGES, ("quantized: exact answers 76.0%",), rows="60 held-out rows", layers={"quantized": "layer x lost most"}, accepted=True
    )
    page = write(tmp_path, json.loads(json.dumps(certificate.to_dict())))
    for words in (
        "Lost, and accepted",
        "quantized: exact answers 76.0%.",
        "layer x lost most",
        "60 held-out rows",
        "538.0",
        "89.0%",
        "0.01",
    ):
        assert words in page
    assert "tiny &lt;b&gt;" in page
    assert "<script" not in page
    assert "1.0 MB" in page


def test_what_passed_and_what_was_not_proven(tmp_path: Path) -> None:
    assert "Within the tolerances" in write(tmp_path, Certificate(STAGES[:1]).to_dict())
    assert "No certificate" in write(tmp_path, None)


def test_only_exports_have_this_page(tmp_path: Path) -> None:
    assert not is_export(tmp_path)
    with pytest.raises(ModelError, match="is not a folder that auto-opt made"):
        write_export_report(tmp_path)
    with pytest.raises(ModelError, match=r"certificate in .* can't be read"):
        write(tmp_path, {"stages": [{"nothing": 1}]})
    assert is_export(tmp_path)
