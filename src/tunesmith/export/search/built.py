"""A recipe as an ONNX folder: one graph is built, and its weights are replaced by the codes of whichever recipe."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tunesmith.evaluate.bench import bench
from tunesmith.export.decoder import build_decoder, finish_decoder, run_builder
from tunesmith.export.folder import write_extras
from tunesmith.export.plan import Plan
from tunesmith.export.recipes.recipe import QuantizedWeights, WeightRecipe, quantized_values
from tunesmith.export.search.trials import Laboratory
from tunesmith.export.targets import PROVIDERS, Recipe, Target
from tunesmith.export.written_codes import write_codes
from tunesmith.models.save import save_plain_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

_BUILDER = Recipe("model_builder", "int4", {"execution_provider": "cpu"}, ran_here=True)
#: What is measured: short enough to be repeated, long enough to be the speed of writing.
_PROMPT_TOKENS, _NEW_TOKENS, _REPEATS = 32, 32, 5


def plan_of(recipe: WeightRecipe) -> Plan:
    """Return the plan of a recipe, as the manifest of its folder tells it."""
    precision = f"int{recipe.format.bits}"
    options = {"execution_provider": "cpu", "block_size": recipe.format.block_size, "recipe": recipe.to_dict(), "name": recipe.name}
    return Plan(Target("cpu", PROVIDERS["cpu"], precision), Recipe("model_builder", precision, options, ran_here=True))


class Workshop:
    """Builds folders of recipes; the graph is built once. To be used in a ``with``: it lies in a folder that is removed afterwards.

    Args:
        laboratory: the model and its recipes.
        beside: a folder on the disk where results go; made when something is built.
    """

    def __init__(self, laboratory: Laboratory, beside: Path) -> None:
        self._laboratory, self._folder = laboratory, beside
        self._stack = contextlib.ExitStack()
        self._skeleton: Path | None = None

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def _beside(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def build(self, recipe: WeightRecipe, folder: Path) -> QuantizedWeights:
        """Write a recipe's model into an empty folder, and return the weights that are in it."""
        weights = self._laboratory.weights(recipe)
        with self._graph_for(weights) as skeleton:
            write_codes(skeleton, folder, weights)
        return weights

    def token_ms(self, recipes: Sequence[WeightRecipe]) -> list[float]:
        """Return the milliseconds a written token of recipes, measured side by side on this machine (the median)."""
        source = self._laboratory.source
        with contextlib.ExitStack() as stack:
            folders = []
            for number, recipe in enumerate(recipes):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f".speed{number}-", dir=self._beside)))
                self.build(recipe, folder)
                write_extras(source, folder, plan_of(recipe), name=folder.name)
                folders.append(str(folder))
            log.info("Measuring how fast %d recipe%s write …", len(folders), "s" if len(folders) > 1 else "")
            found = bench(folders, prompt_tokens=_PROMPT_TOKENS, new_tokens=_NEW_TOKENS, repeats=_REPEATS)
        return [one.token_ms["p50"] for one in found]

    @contextlib.contextmanager
    def _graph_for(self, weights: QuantizedWeights) -> Iterator[Path]:
        """The graph whose products are replaced; one of its own where a recipe moves weights that stay in floating point."""
        if weights.floats:
            with tempfile.TemporaryDirectory(prefix=".graph-", dir=self._beside) as folder:
                self._build_changed(weights.floats, Path(folder))
                yield Path(folder)
            return
        if self._skeleton is None:
            self._skeleton = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix=".graph-", dir=self._beside)))
            log.info("Building the graph.")
            build_decoder(self._laboratory.source, self._skeleton, _BUILDER)
        yield self._skeleton

    def _build_changed(self, floats: Mapping[str, Any], folder: Path) -> None:
        source = self._laboratory.source
        log.info("Building the graph of weights that were scaled.")
        with tempfile.TemporaryDirectory(prefix=".plain-", dir=self._beside) as plain:
            with quantized_values(self._laboratory.model, QuantizedWeights({}, floats)) as model:
                save_plain_model(cast("PreTrainedModel", model), source.tokenizer, Path(plain))
            run_builder(Path(plain), folder, _BUILDER, trust_remote_code=source.trust_remote_code)
        finish_decoder(source, folder)
