"""Low-rank adaptation of all linear layers (Hu et al. 2021), through the task's own prompt.

All linear layers and alpha = 2 x rank follow Biderman et al. 2024 and "LoRA Without Regret" (2025); the rate is
what decides, so it is what is searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tunewise.adapted import AdaptedModel, ModelRef, Predictor, loaded
from tunewise.methods.base import Method, SearchSpace, Trial
from tunewise.methods.tuning import tune
from tunewise.task import Dataset, TaskSpec


@dataclass(frozen=True)
class Lora(Method):
    """Low-rank updates beside all linear layers; the base stays frozen."""

    name: ClassVar[str] = "lora"
    family: ClassVar[str] = "fine-tuning"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    order: ClassVar[int] = 0
    work: ClassVar[str | None] = "train-lora"

    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    rank: int = 16
    """Rank of the update of each layer; alpha is twice the rank."""
    epochs: int = 3
    """Passes over the training rows, at most."""
    batch_size: int = 16
    """Examples a step."""

    @classmethod
    def search_space(cls, spec: TaskSpec, model: ModelRef | None, n_train: int) -> SearchSpace:
        """Three rates, half a decade apart, and smaller batches for few rows."""
        return {
            "learning_rate": [1e-3, 5e-4, 2e-3],
            "batch_size": [16 if n_train >= 128 else 8],
            "epochs": [5 if n_train >= 200 else 6],
        }

    def fit(self, start: Predictor, train: Dataset, validation: Dataset, trial: Trial) -> Predictor:
        """Learn the updates; the best checked step is kept."""
        from tunewise.engine.adapters import new_lora
        from tunewise.engine.training import Recipe

        assert isinstance(start, AdaptedModel)
        model = loaded(start.base)
        weights = new_lora(model.network, model.linear_names, self.rank, 2 * self.rank, trial.seed)
        recipe = Recipe(self.learning_rate, self.batch_size, seed=trial.seed)
        return tune(start, weights, train, validation, recipe, self.epochs, trial)
