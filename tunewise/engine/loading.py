"""Reading a base model from its folder, and making sure that the engine can compute with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tunewise.cost import ModelShape
from tunewise.engine import attention
from tunewise.engine.adapters import make_adaptable
from tunewise.engine.forward import lay_out, run
from tunewise.engine.hardware import best_device, best_dtype
from tunewise.engine.model import LanguageModel
from tunewise.engine.tree import Row, grow
from tunewise.errors import CandidateError


def load(folder: Path, dtype: torch.dtype | None = None) -> LanguageModel:
    """Read a base model from a Hugging Face folder with safetensors weights.

    Args:
        folder: holds `config.json`, the tokenizer and `*.safetensors`.
        dtype: what to compute in; by default what this machine multiplies fastest.

    Raises:
        CandidateError: the folder is not a readable language model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        network = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype or best_dtype(), use_safetensors=True, attn_implementation="sdpa"
        )
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise CandidateError(
            f"{folder} is not a language model that can be read: {error}. "
            "Expected a Hugging Face folder with config.json, a tokenizer and *.safetensors."
        ) from error
    network.requires_grad_(False)
    network.eval()
    torch.nn.Module.to(network, best_device())
    names = make_adaptable(network)
    attention.register()
    network.set_attn_implementation(attention.NAME)
    model = LanguageModel(network, tokenizer, folder, names, _shape(network.config.get_text_config()))
    if not names or not _every_layer_attends(model):
        raise CandidateError(
            f"{folder} is a {network.config.model_type} model: its layers keep a running state, attend in a way "
            "of their own, or are not linear layers, which is not supported. Choose a transformer decoder such as "
            "Llama, Qwen, Gemma 3 or SmolLM."
        )
    return model


@torch.inference_mode()
def _every_layer_attends(model: LanguageModel) -> bool:
    """Whether each layer asks our attention, and for no more than it gives: tried, not guessed from a name."""
    laid = lay_out(model, grow([Row(0, (0, 0), 0)]))
    try:
        run(model, laid.ids, laid.layout)
    except (TypeError, ValueError, AttributeError):
        return False
    return laid.layout.calls == model.shape.layers


def _shape(config: Any) -> ModelShape:
    # Asked by attribute: configurations spell the same size in different ways, and answer to the common name.
    names = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "vocab_size")
    more = ("num_key_value_heads", "head_dim")
    return ModelShape.from_config({name: getattr(config, name, None) for name in (*names, *more)})
