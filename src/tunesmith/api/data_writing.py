"""Writing data anew: cleaned, split, converted, augmented."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tunesmith.api.answering import load

if TYPE_CHECKING:
    from tunesmith.data.augment import Augmented
    from tunesmith.data.cleaning import Cleaned
    from tunesmith.data.converting import Converted, Target
    from tunesmith.data.dividing import Divided


def clean_data(
    data_files: Sequence[str],
    output_path: str | Path,
    *,
    test_files: Sequence[str] = (),
    conflicts: Literal["majority", "drop", "keep"] = "majority",
    text_template: str | None = None,
    text_field: str | None = None,
    map_columns: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Cleaned:
    """Write rows anew, mended, without those that can't be; see :func:`tunesmith.data.cleaning.clean`."""
    from tunesmith.data.cleaning import clean
    from tunesmith.data.doctor.inputs import held_back_source, training_source

    return clean(
        [training_source(name) for name in data_files],
        Path(output_path).expanduser(),
        test_files=[held_back_source(name) for name in test_files],
        conflicts=conflicts,
        text_template=text_template,
        text_field=text_field,
        map_columns=map_columns,
        overwrite=overwrite,
    )


def split_data(
    data_files: Sequence[str],
    output_path: str | Path,
    *,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    group_by: str | None = None,
    time_by: str | None = None,
    stratify_by: str | None = None,
    text_template: str | None = None,
    map_columns: Mapping[str, str] | None = None,
    file_type: str = "jsonl",
    seed: int = 0,
    overwrite: bool = False,
) -> Divided:
    """Divide rows into training, validation and test files of a folder; see :func:`tunesmith.data.dividing.divide`."""
    from tunesmith.data.dividing import divide
    from tunesmith.data.doctor.inputs import training_source

    return divide(
        [training_source(name) for name in data_files],
        Path(output_path).expanduser(),
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        group_by=group_by,
        time_by=time_by,
        stratify_by=stratify_by,
        text_template=text_template,
        map_columns=map_columns,
        file_type=f".{file_type}",
        seed=seed,
        overwrite=overwrite,
    )


def convert_data(
    data_files: Sequence[str],
    output_path: str | Path,
    *,
    to: Target = "same",
    map_columns: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Converted:
    """Write rows in another format or kind of file; see :func:`tunesmith.data.converting.convert`."""
    from tunesmith.data.converting import convert
    from tunesmith.data.doctor.inputs import training_source

    files = [training_source(name) for name in data_files]
    return convert(files, Path(output_path).expanduser(), to=to, map_columns=map_columns, overwrite=overwrite)


def augment_data(
    data_files: Sequence[str],
    output_path: str | Path,
    *,
    kinds: Sequence[str] | None = None,
    num_copies: int = 1,
    synonyms_file: str | Path | None = None,
    paraphrase_model: str | None = None,
    test_files: Sequence[str] = (),
    map_columns: Mapping[str, str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Augmented:
    """Write training rows and variations of them; see :func:`tunesmith.data.augment.augment`.

    Args:
        paraphrase_model: a model as :func:`load` takes it, which says prompts in other words.
    """
    from tunesmith.data.augment import augment
    from tunesmith.data.doctor.inputs import held_back_source, training_source

    return augment(
        [training_source(name) for name in data_files],
        Path(output_path).expanduser(),
        kinds=kinds,
        num_copies=num_copies,
        synonyms_file=Path(synonyms_file).expanduser() if synonyms_file is not None else None,
        paraphrase=_paraphrase(paraphrase_model) if paraphrase_model is not None else None,
        test_files=[held_back_source(name) for name in test_files],
        map_columns=map_columns,
        seed=seed,
        overwrite=overwrite,
    )


def _paraphrase(model: str) -> Callable[[Sequence[str], int], list[str]]:
    """Return what says texts in other words by a model, which is loaded now."""
    from tunesmith.data.augment import PARAPHRASE_PROMPT

    runtime = load(model)

    def say_again(texts: Sequence[str], seed: int) -> list[str]:
        prompts = [[{"role": "user", "content": PARAPHRASE_PROMPT.format(text=text)}] for text in texts]
        return [answer.text for answer in runtime.generate(prompts, max_new_tokens=128, temperature=0.8, top_p=0.95, seed=seed)]

    return say_again
