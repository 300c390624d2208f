"""The data doctor: what is wrong with rows, with file and line, before a model learns it.

Rows stream once past every check; what checks keep is bounded a row (hashes, sketches, counters). To add one: a class with ``see`` and
``finish`` (see :class:`tunesmith.data.doctor.checks.Check`) and a line in ``CHECKS``.
"""

from __future__ import annotations

from tunesmith.registry import Registry

_HERE = "tunesmith.data.doctor"

CHECKS = Registry(
    "check",
    {
        "fields": f"{_HERE}.fields:Fields",
        "types": f"{_HERE}.fields:Types",
        "encoding": f"{_HERE}.encoding:Encoding",
        "duplicates": f"{_HERE}.duplicates:Duplicates",
        "near_duplicates": f"{_HERE}.near_duplicates:NearDuplicates",
        "leakage": f"{_HERE}.duplicates:Leakage",
        "conflicts": f"{_HERE}.labels:Conflicts",
        "labels": f"{_HERE}.labels:Labels",
        "lengths": f"{_HERE}.lengths:Lengths",
        "tokens": f"{_HERE}.tokens:Tokens",
        "special_tokens": f"{_HERE}.templates:SpecialTokensInRows",
        "placeholders": f"{_HERE}.templates:Placeholders",
        "languages": f"{_HERE}.languages:Languages",
        "secrets": f"{_HERE}.private:Secrets",
        "personal": f"{_HERE}.private:PersonalData",
        "diversity": f"{_HERE}.diversity:Diversity",
    },
)
