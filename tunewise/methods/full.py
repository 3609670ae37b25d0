"""Fine-tuning of all parameters: float32 master weights, the network in its own dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tunewise.adapted import AdaptedModel, ModelRef, Predictor, loaded
from tunewise.methods.base import Method, SearchSpace, Trial
from tunewise.methods.tuning import tune
from tunewise.task import Dataset, TaskSpec


@dataclass(frozen=True)
class Full(Method):
    """Every parameter of the model learns; the adapted model is a whole model of its own."""

    name: ClassVar[str] = "full"
    family: ClassVar[str] = "fine-tuning"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    order: ClassVar[int] = 2
    work: ClassVar[str | None] = "train-full"

    learning_rate: float = 1e-4
    """Peak learning rate of AdamW."""
    epochs: int = 3
    """Passes over the training rows, at most."""
    batch_size: int = 16
    """Examples a step."""

    @classmethod
    def search_space(cls, spec: TaskSpec, model: ModelRef | None, n_train: int) -> SearchSpace:
        """Rates about a tenth of LoRA's."""
        return {
            "learning_rate": [1e-4, 5e-5],
            "batch_size": [16 if n_train >= 128 else 8],
            "epochs": [3 if n_train >= 200 else 6],
        }

    def fit(self, start: Predictor, train: Dataset, validation: Dataset, trial: Trial) -> Predictor:
        """Learn all parameters; the best checked step is kept."""
        from tunewise.engine.adapters import Weights
        from tunewise.engine.training import Recipe

        assert isinstance(start, AdaptedModel)
        model = loaded(start.base)
        # Tied tensors stand once under `named_parameters`, and are learned once.
        weights = Weights("full", dict(model.network.named_parameters()))
        recipe = Recipe(self.learning_rate, self.batch_size, seed=trial.seed)
        return tune(start, weights, train, validation, recipe, self.epochs, trial)
