"""Prompt tuning (Lester et al. 2021): learned embeddings before the prompt, started from the instruction's text.

The rate decides whether it works at all: far larger than for weights, and for several epochs. At such rates single
steps swing; a study therefore makes its candidates of a running mean over steps (Polyak & Juditsky 1992).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tunewise.adapted import AdaptedModel, ModelRef, Predictor, loaded
from tunewise.methods.base import Method, SearchSpace, Trial
from tunewise.methods.tuning import tune
from tunewise.task import Choices, Dataset, TaskSpec

AVERAGE = 0.9
"""Decay of the running mean that a study uses; docs/LOG.md has what it is worth, here and elsewhere."""


@dataclass(frozen=True)
class SoftPrompt(Method):
    """Learned embeddings at the very start of the input; the model stays frozen."""

    name: ClassVar[str] = "soft-prompt"
    family: ClassVar[str] = "prompt tuning"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    order: ClassVar[int] = 1
    work: ClassVar[str | None] = "train-soft-prompt"

    learning_rate: float = 2e-2
    """Peak learning rate of AdamW."""
    length: int = 20
    """Learned embeddings; they start as the first tokens of the instruction and the labels, repeated as needed."""
    epochs: int = 8
    """Passes over the training rows, at most."""
    batch_size: int = 8
    """Examples a step."""
    average: float = 0.0
    """Decay of the running mean over steps that candidates are made of; 0 takes the last step as it is."""

    @classmethod
    def search_space(cls, spec: TaskSpec, model: ModelRef | None, n_train: int) -> SearchSpace:
        """Two rates: one decade below them it hardly learns within a few hundred steps."""
        return {
            "learning_rate": [2e-2, 1e-2],
            "batch_size": [8],
            "average": [AVERAGE],
            "epochs": [8 if n_train >= 200 else 16],
        }

    def fit(self, start: Predictor, train: Dataset, validation: Dataset, trial: Trial) -> Predictor:
        """Learn the embeddings; the best checked step is kept."""
        import torch

        from tunewise.engine.adapters import SOFT_PROMPT, Weights
        from tunewise.engine.training import Recipe

        assert isinstance(start, AdaptedModel)
        model = loaded(start.base)
        words = start.spec.answer.words if isinstance(start.spec.answer, Choices) else ()
        tokens = model.encode(" ".join([start.prompt.instruction, *words])) or [model.end_id]
        ids = [tokens[place % len(tokens)] for place in range(self.length)]
        with torch.no_grad():
            # Through the embedding module, which may scale, and in float32.
            module = model.network.get_input_embeddings()
            embeddings = module(torch.tensor(ids, device=model.device)).float()
        weights = Weights("soft-prompt", {SOFT_PROMPT: embeddings})
        recipe = Recipe(self.learning_rate, self.batch_size, average=self.average, seed=trial.seed)
        return tune(start, weights, train, validation, recipe, self.epochs, trial)
