"""From files of prompts to votes: answers first, then the page, until Ctrl-C; going on with what a folder holds already."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from tunesmith.errors import DataError, OutputError, UsageError
from tunesmith.evaluate.rating.answers import check_complete, make_answers
from tunesmith.evaluate.rating.folder import VOTES, Rating, check_same, create_rating, is_rating, new_seed, read_rating, read_votes
from tunesmith.evaluate.rating.json_log import JsonLog
from tunesmith.evaluate.rating.order import Scale, draw_screens
from tunesmith.evaluate.rating.prompts import read_answers, read_prompts
from tunesmith.evaluate.rating.server import RatingServer
from tunesmith.evaluate.rating.session import RatingSession
from tunesmith.evaluate.rating.summary import RatingSummary, export_rating, read_result, read_summary

if TYPE_CHECKING:
    from tunesmith.runtime.protocol import Runtime

log = logging.getLogger(__name__)

#: A rating with more prompts than that is seldom finished by anybody.
MANY_SCREENS = 500


def prepare(
    folder: Path,
    *,
    data_files: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    answers: Sequence[str] | None = None,
    scale: Scale | None = None,
    text_field: str | None = None,
    max_samples: int | None = None,
    seed: int | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> Rating:
    """Return the rating that a folder holds, or a new one made from what is named.

    Args:
        folder: of the rating.
        data_files, text_field, max_samples: the prompts; see :func:`~tunesmith.evaluate.rating.prompts.read_prompts`.
        models: at least two; with ``answers`` their names.
        answers: a file of answers for each model, in place of prompts and models.
        scale: ``pairs`` by default.
        seed: of the order in which answers are shown, and of sampling; the order's is drawn when None.
        sampling: how a runtime answers, as it takes it; a value of None counts as not given.

    Raises:
        UsageError: for options that are missing or contradict each other.
        DataError: for prompts or answers that can't be read.
        OutputError: when the folder holds another rating, or something else.
    """
    _check_named(folder, data_files, models, answers)
    given = {name: value for name, value in (sampling or {}).items() if value is not None}
    _check_idle(data_files, answers, {"text_field": text_field, "max_samples": max_samples}, given)
    prompts, texts = None, None
    if answers is not None:
        prompts, texts = read_answers(answers)
        models = models or _names_of(answers)
    elif data_files is not None:
        prompts = read_prompts(data_files, text_field=text_field, max_samples=max_samples)
    _check_models(models)
    if is_rating(folder):
        rating = read_rating(folder)
        check_same(rating, prompts=prompts, models=models, scale=scale, seed=seed, sampling=given)
        return rating
    if prompts is None or models is None:
        raise UsageError(f"there is no rating in {folder}, and none is named", fix="Begin one: --data_files FILE --models A,B")
    number = new_seed() if seed is None else seed
    create_rating(Rating(folder, scale or "pairs", tuple(models), number, tuple(prompts), {**given, "seed": seed}), texts or ())
    return read_rating(folder)


def serve(
    folder: Path, load: Callable[[str], Runtime], *, host: str = "127.0.0.1", port: int = 0, ready: Callable[[str], None] = print
) -> RatingSummary | None:
    """Make the answers that are missing, then serve the page until Ctrl-C.

    Args:
        folder: of a rating.
        load: from a model's name to something that answers.
        host, port: where to listen; loopback and any free port by default.
        ready: called with the link when the page can be opened.

    Returns: the result so far; None without a vote.
    Raises:
        UserError: when answers can't be made, the folder is in use, or nothing can be listened to.
    """
    with _alone(folder):
        rating = read_rating(folder)
        answers = _answered(rating, load)
        num_screens = len(draw_screens(rating.scale, rating.models, answers, seed=rating.seed, rater=""))
        if not num_screens:
            raise DataError("the models answer every prompt alike: there is nothing to rate", file=str(folder))
        with (
            JsonLog(folder / VOTES) as votes,
            contextlib.closing(RatingSession(rating, answers, votes)) as session,
            RatingServer(session, host=host, port=port) as server,
            contextlib.suppress(KeyboardInterrupt),
        ):
            _say(rating, num_screens, len(votes.records), server)
            ready(server.link)
            server.serve_forever(poll_interval=0.2)
    return read_summary(folder)


def summary_and_export(folder: Path) -> tuple[RatingSummary, Path]:
    """Return the result of a rating so far, and the file to which everything was exported.

    Raises:
        DataError: when there is no rating, no vote, or something that can't be read.
        OutputError: when the export can't be written.
    """
    summary, rating = read_result(folder), read_rating(folder)
    return summary, export_rating(rating, read_votes(rating))


def _check_named(folder: Path, data_files: Sequence[str] | None, models: Sequence[str] | None, answers: Sequence[str] | None) -> None:
    """Check that what is named goes together."""
    if answers is not None and data_files is not None:
        raise UsageError("--answers bring their prompts with them, so --data_files has no effect", fix="Leave it out")
    if answers is not None and len(answers) < 2:
        raise UsageError("--answers names one file", fix="Name two or more: --answers a.jsonl,b.jsonl")
    if answers is not None and models is not None and len(models) != len(answers):
        raise UsageError(f"--models names {len(models)} models, --answers {len(answers)} files", fix="Name a model for each file, or none")
    if is_rating(folder) or answers is not None:
        return
    if data_files is not None and models is None:
        raise UsageError("--data_files are named, but no models to answer them", fix="Name two or more: --models A,B")
    if models is not None and data_files is None:
        raise UsageError("models are named, but no prompts for them", fix="Name a file of prompts: --data_files FILE")


def _check_idle(
    data_files: Sequence[str] | None, answers: Sequence[str] | None, reading: Mapping[str, Any], sampling: Mapping[str, Any]
) -> None:
    """Refuse options that have no effect."""
    idle = [name for name, value in reading.items() if value is not None and data_files is None]
    if idle:
        raise UsageError(f"{', '.join(f'--{name}' for name in idle)} speaks of --data_files, and there are none")
    if sampling and answers is not None:
        names = ", ".join(f"--{name}" for name in sampling)
        raise UsageError(f"{names} has no effect: --answers are made already", fix="Leave it out")


def _check_models(models: Sequence[str] | None) -> None:
    if models is None:
        return
    if len(models) < 2:
        raise UsageError("--models names one model, and rating compares", fix="Name two or more: --models A,B")
    twice = next((model for model in models if models.count(model) > 1), None)
    if twice is not None:
        raise UsageError(f"--models names {twice} twice", fix="Name different models")


def _names_of(files: Sequence[str]) -> list[str]:
    """Return short names for files of answers: the file's, where that tells them apart, else its whole path."""
    stems = [Path(file).stem for file in files]
    return stems if len(set(stems)) == len(stems) else list(files)


def _answered(rating: Rating, load: Callable[[str], Runtime]) -> list[dict[str, str]]:
    """Return the answers to every prompt; those that are missing are made."""
    try:
        answers = make_answers(rating, load)
    except KeyboardInterrupt:
        words = f"interrupted; the answers so far are kept, and tunesmith rate -o {rating.folder} goes on"
        raise KeyboardInterrupt(words) from None
    check_complete(rating, answers)
    return answers


def _say(rating: Rating, num_screens: int, num_votes: int, server: RatingServer) -> None:
    """Say what the raters have before them, and who can."""
    what = "pairs of answers" if rating.scale == "pairs" else "prompts with answers to score"
    log.info("%d %s for each rater; %d votes are there already.", num_screens, what, num_votes)
    if num_screens > MANY_SCREENS:
        log.warning("That is a lot to read for one person: --max_samples takes fewer prompts, chosen at random.")
    if not server.is_local:
        log.warning("Whoever has the link can rate from other machines, and it travels unencrypted: use it in a network that you trust.")
    log.info("Ctrl-C ends it; every vote is saved at once.")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second program out of a folder; the lock ends with this process, however it ends.

    Raises:
        OutputError: when another one is at work there, or the folder can't be written.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        fix = "Open the link that it printed, or end it first"
        raise OutputError(f"another tunesmith rate is at work in {folder}", fix=fix) from error
    except OSError as error:
        raise OutputError(f"{folder} can't be written: {error.strerror or error}", fix="Check its permissions") from error
    try:
        yield
    finally:
        lock.release()
