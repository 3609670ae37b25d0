"""Reading a base model from its folder, and making sure that the engine can compute with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunewise.cost import ModelShape
from tunewise.engine import attention, blocks, memory
from tunewise.engine.adapters import make_adaptable
from tunewise.engine.forward import embed, run_modules
from tunewise.engine.hardware import best_device, best_dtype
from tunewise.engine.laying import lay_out
from tunewise.engine.model import LanguageModel
from tunewise.engine.tree import Row, grow
from tunewise.errors import CandidateError

PROBED = 12
"""Tokens that two ways of computing a network are compared on."""


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
    memory.keep_freed()
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
    asked = _asked(model) if names else {}
    if len(asked) != model.shape.layers:
        raise CandidateError(
            f"{folder} is a {network.config.model_type} model: its layers keep a running state, attend in a way "
            "of their own, or are not linear layers, which is not supported. Choose a transformer decoder such as "
            "Llama, Qwen, Gemma 3 or SmolLM."
        )
    found = blocks.read(model.decoder, network.config.get_text_config(), asked)
    if found is not None and _equal(model, found):
        model.blocks = found
    return model


@torch.inference_mode()
def _asked(model: LanguageModel) -> dict[int, tuple[float, int | None]]:
    """Scale and window that each layer asks our attention for, and no more than it gives: tried, not guessed."""
    laid = lay_out(grow([Row(0, (0, 0), 0)]), model.device)
    try:
        run_modules(model, embed(model, laid.ids), laid.layout)
    except (TypeError, ValueError, AttributeError):
        return {}
    return laid.layout.asked


@torch.inference_mode()
def _equal(model: LanguageModel, found: blocks.Blocks) -> bool:
    """Whether blocks give what the network's modules give, layer by layer, with nothing between them."""
    vocabulary = model.shape.vocabulary
    tokens = tuple(range(0, vocabulary, max(1, vocabulary // PROBED)))
    laid = lay_out(grow([Row(0, tokens, 0)]), model.device)
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(_: Any, given: tuple[Any, ...], result: Any) -> None:
        seen.append((given[0][0], (result if isinstance(result, Tensor) else result[0])[0]))

    hooks = [layer.register_forward_hook(keep) for layer in model.decoder.layers]
    try:
        last = run_modules(model, embed(model, laid.ids), laid.layout)
    finally:
        for hook in hooks:
            hook.remove()
    steps = [embed(model, laid.ids), *(after for _, after in seen)]
    if len(seen) != len(found.layers) or not torch.equal(found.norm(steps[-1]), last):
        return False
    if not all(torch.equal(before, step) for (before, _), step in zip(seen, steps, strict=False)):
        return False
    rotation = found.rotation(steps[0], laid.layout.positions)
    try:
        return all(
            _near(block.run(before, rotation, laid.layout), before, after)
            for block, (before, after) in zip(found.layers, seen, strict=True)
        )
    except RuntimeError:  # sizes that do not go together: layers of another structure under the same names
        return False


def _near(ours: Tensor, before: Tensor, after: Tensor) -> bool:
    """Whether a layer's result is that of its modules but for rounding; another structure changes the update."""
    eps = max(torch.finfo(torch.float32).eps, torch.finfo(after.dtype).eps)
    ours, before, after = (tensor.to(torch.float64) for tensor in (ours, before, after))
    return bool((ours - after).norm() <= 0.05 * (after - before).norm() + eps * after.norm())


def _shape(config: Any) -> ModelShape:
    # Asked by attribute: configurations spell the same size in different ways, and answer to the common name.
    names = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "vocab_size")
    more = ("num_key_value_heads", "head_dim")
    return ModelShape.from_config({name: getattr(config, name, None) for name in (*names, *more)})
