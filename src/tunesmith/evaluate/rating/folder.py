"""The folder of a rating: what is rated, the answers, and every vote.

rating.json     scale, models, seed, hash of the prompts
prompts.jsonl   the prompts
answers.jsonl   a line an answer: model, item, text, stopped; written as they are made
votes.jsonl     a line a vote, as they come
export.jsonl    everything together, written by --summary
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from tunesmith.artifact import new_folder, write_file_atomically
from tunesmith.errors import DataError, OutputError
from tunesmith.evaluate.rating.json_log import Record, json_bytes, read_json_log
from tunesmith.evaluate.rating.order import Scale
from tunesmith.evaluate.rating.prompts import RatingPrompt

RATING, PROMPTS, ANSWERS, VOTES, EXPORT = "rating.json", "prompts.jsonl", "answers.jsonl", "votes.jsonl", "export.jsonl"


@dataclass(frozen=True)
class Rating:
    """What is rated.

    Attributes:
        folder: where it is kept.
        scale: ``pairs`` or ``1-5``.
        models: names as the user gave them; raters never see them.
        seed: from which the order of each rater is drawn.
        prompts: item 1 is the first.
        sampling: how answers are made, as a runtime takes it.
    """

    folder: Path
    scale: Scale
    models: tuple[str, ...]
    seed: int
    prompts: tuple[RatingPrompt, ...]
    sampling: Mapping[str, Any]


@dataclass(frozen=True)
class Vote:
    """What one rater says of the answers on one screen.

    Attributes:
        rater, item: who, and of which prompt (from 1).
        shown: the models, in the order on the screen.
        winner: with ``pairs`` the better one; None for a tie.
        scores: with ``1-5`` model -> 1 to 5; None with ``pairs``.
        comment, time: the rater's words; when, in UTC as ISO 8601.
    """

    rater: str
    item: int
    shown: tuple[str, ...]
    winner: str | None
    scores: Mapping[str, int] | None
    comment: str
    time: str

    @property
    def subject(self) -> tuple[str, int, frozenset[str]]:
        """What the vote is on; the last of several votes on the same counts."""
        return self.rater, self.item, frozenset(self.shown)

    def to_dict(self) -> dict[str, Any]:
        """Return the vote as plain values."""
        verdict = {"winner": self.winner} if self.scores is None else {"scores": dict(self.scores)}
        return {"rater": self.rater, "item": self.item, "shown": list(self.shown), **verdict, "comment": self.comment, "time": self.time}


def is_rating(folder: Path) -> bool:
    """Return whether a folder holds a rating."""
    return (folder / RATING).is_file()


def create_rating(rating: Rating, answers: Sequence[Sequence[str]] = ()) -> None:
    """Write a new folder, whole or not at all.

    Args:
        rating: what is to be rated.
        answers: for each model its answers, when there are some already.

    Raises:
        OutputError: when the folder exists with other things in it, or can't be written.
    """
    with new_folder(rating.folder) as folder:
        write_file_atomically(folder / PROMPTS, b"".join(json_bytes(prompt.to_dict()) for prompt in rating.prompts))
        pairs = zip(rating.models, answers, strict=False)
        lines = (json_bytes(answer_record(model, item, text)) for model, texts in pairs for item, text in enumerate(texts, start=1))
        write_file_atomically(folder / ANSWERS, b"".join(lines))
        settings = {"version": 1, "scale": rating.scale, "models": list(rating.models), "seed": rating.seed}
        more = {"prompts_sha256": hash_prompts(rating.prompts), "num_prompts": len(rating.prompts), "sampling": dict(rating.sampling)}
        write_file_atomically(folder / RATING, json.dumps({**settings, **more}, indent=2, ensure_ascii=False) + "\n")


def answer_record(model: str, item: int, text: str, *, stopped: bool | None = None) -> Record:
    """Return a line of ``answers.jsonl``; ``stopped`` is None where nobody knows whether the answer was cut."""
    return {"model": model, "item": item, "text": text, "stopped": stopped}


def read_rating(folder: Path) -> Rating:
    """Return the rating that a folder holds.

    Raises:
        DataError: when it holds none, or its files can't be read or don't belong together.
    """
    path = folder / RATING
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        prompts = tuple(RatingPrompt.from_dict(record) for record in read_json_log(folder / PROMPTS))
        rating = Rating(
            folder, found["scale"], tuple(map(str, found["models"])), int(found["seed"]), prompts, dict(found.get("sampling", {}))
        )
        complete = rating.scale in get_args(Scale) and hash_prompts(prompts) == found["prompts_sha256"]
    except FileNotFoundError as error:
        raise DataError(
            "there is no rating in this folder", file=str(folder), fix="Begin one: tunesmith rate --data_files FILE --models A,B"
        ) from error
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror or error}", file=str(path)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"is no rating that can be read: {error}", file=str(path), fix="Choose another --output_path") from error
    if not complete:
        raise DataError(f"{RATING} and {PROMPTS} don't belong together", file=str(folder), fix="Choose another --output_path")
    return rating


def read_answers_of(rating: Rating) -> list[dict[str, str]]:
    """Return for each prompt the answers by model, as far as there are some.

    Raises:
        DataError: for a line that can't be read or answers no prompt of the rating.
    """
    answers: list[dict[str, str]] = [{} for _ in rating.prompts]
    path = rating.folder / ANSWERS
    for number, record in enumerate(read_json_log(path), start=1):
        model, item, text = record.get("model"), record.get("item"), record.get("text")
        if model not in rating.models or not _is_item(item, rating) or not isinstance(text, str):
            raise DataError(f"line {number} is no answer of this rating", file=str(path), fix="Mend or remove that line")
        answers[cast(int, item) - 1][cast(str, model)] = text
    return answers


def read_votes(rating: Rating) -> list[Vote]:
    """Return the votes that count: of several on the same answers by the same rater the last one.

    Raises:
        DataError: for a line that can't be read or is no vote of this rating.
    """
    return latest_votes(rating, read_json_log(rating.folder / VOTES))


def latest_votes(rating: Rating, records: Sequence[Record]) -> list[Vote]:
    """Return the votes in the records of a log that count; see :func:`read_votes`."""
    path = rating.folder / VOTES
    latest: dict[object, Vote] = {}
    for number, record in enumerate(records, start=1):
        vote = _vote(record, rating)
        if vote is None:
            raise DataError(f"line {number} is no vote of this rating", file=str(path), fix="Mend or remove that line")
        latest.pop(vote.subject, None)
        latest[vote.subject] = vote
    return list(latest.values())


def hash_prompts(prompts: Sequence[RatingPrompt]) -> str:
    """Return the SHA-256 of what the raters read."""
    read = json.dumps([[prompt.text, prompt.reference] for prompt in prompts], ensure_ascii=False)
    return hashlib.sha256(read.encode("utf-8", errors="replace")).hexdigest()  # as json_bytes writes them


def check_same(
    rating: Rating,
    *,
    prompts: Sequence[RatingPrompt] | None,
    models: Sequence[str] | None,
    scale: Scale | None,
    seed: int | None,
    sampling: Mapping[str, Any],
) -> None:
    """Check that what a command names is what a folder already rates; None is not named, and neither is what ``sampling`` lacks.

    Raises:
        OutputError: when it is something else.
    """
    fix = "Choose another --output_path, or name only --output_path to go on"
    if prompts is not None and hash_prompts(prompts) != hash_prompts(rating.prompts):
        raise OutputError(f"{rating.folder} holds ratings of other prompts ({len(rating.prompts)} of them)", fix=fix)
    if models is not None and tuple(models) != rating.models:
        raise OutputError(f"{rating.folder} holds ratings of other models: {', '.join(rating.models)}", fix=fix)
    if scale is not None and scale != rating.scale:
        raise OutputError(f"{rating.folder} holds ratings on the scale {rating.scale}, not {scale}", fix=fix)
    if seed is not None and seed != rating.seed:
        raise OutputError(f"{rating.folder} holds ratings shown in the order of another seed than {seed}", fix=fix)
    other = [name for name, value in sampling.items() if rating.sampling.get(name) != value]
    if other:
        names = ", ".join(f"--{name}" for name in other)
        raise OutputError(f"{rating.folder} holds answers made with another {names}", fix=fix)


def new_seed() -> int:
    """Return a seed that nobody can guess."""
    return secrets.randbelow(2**31)


def _is_item(item: object, rating: Rating) -> bool:
    return isinstance(item, int) and not isinstance(item, bool) and 1 <= item <= len(rating.prompts)


def _vote(record: Record, rating: Rating) -> Vote | None:
    """Return a record as a vote, None when it is none of this rating."""
    shown, winner, scores = record.get("shown"), record.get("winner"), record.get("scores")
    if not isinstance(record.get("rater"), str) or not _is_item(record.get("item"), rating):
        return None
    if (
        not isinstance(shown, list)
        or len(shown) < 2
        or len(set(map(str, shown))) != len(shown)
        or not set(map(str, shown)) <= set(rating.models)
    ):
        return None
    if rating.scale == "1-5" and (not isinstance(scores, dict) or set(scores) != set(shown) or not all(map(is_score, scores.values()))):
        return None
    if rating.scale == "pairs" and ("winner" not in record or (winner is not None and winner not in shown)):
        return None
    given = scores if rating.scale == "1-5" else None
    return Vote(record["rater"], record["item"], tuple(shown), winner, given, str(record.get("comment", "")), str(record.get("time", "")))


def is_score(value: object) -> bool:
    """Return whether a value is a whole number from 1 to 5."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 5
