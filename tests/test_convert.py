"""GGUF conversion: on a tiny file written here, and (marked) on the real small model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunewise import catalog, convert
from tunewise.errors import FetchError

WIDTH, DEPTH, MIDDLE = 32, 2, 64
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ Ġ", "Ġ 1", "1 2", "i n"]


def byte_symbols() -> list[str]:
    """The 256 printable stand-ins for bytes that byte-level BPE uses (GPT-2)."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def write_gguf(path: Path, pre_type: str = "smollm", **changes: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A two-layer Llama with tied embeddings; returns the embeddings."""
    from gguf import GGUFWriter, TokenType

    tokens = [*SPECIAL, *byte_symbols(), *(merge.replace(" ", "") for merge in MERGES)]
    writer = GGUFWriter(path, changes.get("architecture", "llama"))
    writer.add_block_count(DEPTH)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(MIDDLE)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(WIDTH // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_type)
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (len(tokens) - 3))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    random = np.random.default_rng(0)
    shapes = {"token_embd": (len(tokens), WIDTH), "output_norm": (WIDTH,)}
    for layer in range(DEPTH):
        shapes |= {
            f"blk.{layer}.attn_norm": (WIDTH,),
            f"blk.{layer}.attn_q": (WIDTH, WIDTH),
            f"blk.{layer}.attn_k": (WIDTH // 2, WIDTH),
            f"blk.{layer}.attn_v": (WIDTH // 2, WIDTH),
            f"blk.{layer}.attn_output": (WIDTH, WIDTH),
            f"blk.{layer}.ffn_norm": (WIDTH,),
            f"blk.{layer}.ffn_gate": (MIDDLE, WIDTH),
            f"blk.{layer}.ffn_up": (MIDDLE, WIDTH),
            f"blk.{layer}.ffn_down": (WIDTH, MIDDLE),
        }
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, weight in weights.items():
        writer.add_tensor(f"{name}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights["token_embd"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A converted tiny model, and the embeddings it should have."""
    folder = tmp_path_factory.mktemp("gguf")
    embeddings = write_gguf(folder / "tiny.gguf")
    convert.convert_in_own_process(folder / "tiny.gguf", folder / "tiny")
    return folder / "tiny", embeddings


def test_weights_are_bfloat16_and_tied_embeddings_one_tensor(tiny: tuple[Path, Any]) -> None:
    import torch
    from safetensors.torch import load_file

    folder, embeddings = tiny
    tensors = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert "lm_head.weight" not in tensors
    assert torch.equal(tensors["model.embed_tokens.weight"], torch.from_numpy(embeddings).bfloat16())
    config = json.loads((folder / "config.json").read_text())
    assert config["tie_word_embeddings"] is True
    assert "quantization_config" not in config
    assert config["max_position_embeddings"] == 128


def test_the_folder_loads_in_plain_transformers(tiny: tuple[Path, Any]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(tiny[0])
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    tokenizer = AutoTokenizer.from_pretrained(tiny[0])
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        SPECIAL[1],
        SPECIAL[2],
        SPECIAL[2],
    )
    assert tokenizer.model_max_length == 128
    said = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert said == "hi"
    assert tokenizer("a", add_special_tokens=True)["input_ids"] == tokenizer.convert_tokens_to_ids(["a"])


def test_every_digit_stands_alone_in_the_smollm_family(tiny: tuple[Path, Any]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny[0])
    # The merges "Ġ 1" and "1 2" exist, so that GPT-2's rule would give other tokens.
    assert tokenizer.tokenize("in 12") == ["in", "Ġ", "1", "2"]
    assert tokenizer.tokenize("a  1") == ["a", "ĠĠ", "1"]


@pytest.mark.parametrize(
    ("pre_type", "tokens"),
    [("gpt-2", ["in", "Ġ1", "2"]), ("llama-bpe", ["in", "Ġ", "12"]), ("qwen2", ["in", "Ġ", "1", "2"])],
)
def test_other_families_cut_text_their_own_way(pre_type: str, tokens: list[str]) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    words = [*byte_symbols(), *(merge.replace(" ", "") for merge in MERGES)]
    pairs = [(left, right) for left, right in (merge.split() for merge in MERGES)]
    backend = Tokenizer(BPE({word: number for number, word in enumerate(words)}, pairs))
    convert._set_word_level(backend, pre_type)
    assert backend.encode("in 12").tokens == tokens


def test_files_that_cannot_be_converted_say_why(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(FetchError, match=r"not a GGUF file; it starts with b'PK"):
        convert.convert(tmp_path / "no.gguf", tmp_path / "out")
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    with pytest.raises(FetchError, match=r"cut\.gguf: this GGUF file is damaged"):
        convert.convert(tmp_path / "cut.gguf", tmp_path / "out")
    write_gguf(tmp_path / "odd.gguf", pre_type="never-heard-of")
    with pytest.raises(FetchError, match=r"tokenizer\.ggml\.pre is 'never-heard-of'"):
        convert.convert(tmp_path / "odd.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_reasons_cross_the_process_boundary(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "no.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(FetchError, match="not a GGUF file"):
        convert.convert_in_own_process(tmp_path / "no.gguf", tmp_path / "out")
    with pytest.raises(FetchError, match=r"ended with code 1, its last lines were:\n(.|\n)*FileNotFoundError"):
        convert.convert_in_own_process(tmp_path / "gone.gguf", tmp_path / "out")
    assert capfd.readouterr() == ("", "")


@pytest.mark.real_model
def test_the_default_model_is_smollm2_instruct(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = catalog.fetch_model("smollm2-135m")
    assert catalog.pulled()["smollm2-135m"]
    assert os.access(folder / "LICENSE", os.R_OK)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert sum(weight.numel() for weight in model.parameters()) == catalog.model("smollm2-135m").parameters
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert tokenizer.tokenize("in  2024") == ["in", "ĠĠ", "2", "0", "2", "4"]
    assert len(tokenizer.tokenize("abbreviation")) == 3
    asked = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]
    prompt: Any = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    assert prompt.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    answer = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, ids.shape[1] :])
