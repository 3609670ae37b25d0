"""Both: the best engineered prompt found so far, then LoRA trained through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tunewise.adapted import ModelRef
from tunewise.methods.base import SearchSpace
from tunewise.methods.lora import Lora
from tunewise.task import TaskSpec


@dataclass(frozen=True)
class PromptThenLora(Lora):
    """LoRA through the best prompt with demonstrations that the study has found."""

    name: ClassVar[str] = "prompt-then-lora"
    family: ClassVar[str] = "hybrid"
    starts_from: ClassVar[str | None] = "few-shot"
    order: ClassVar[int] = 0

    @classmethod
    def search_space(cls, spec: TaskSpec, model: ModelRef | None, n_train: int) -> SearchSpace:
        """LoRA's, one pass shorter; the study takes the rate that did best for LoRA itself."""
        space = super().search_space(spec, model, n_train)
        return {**space, "epochs": [max(2, space["epochs"][0] - 1)]}
