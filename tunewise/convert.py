"""A GGUF file as a Hugging Face folder: safetensors in bfloat16, tokenizer, chat template.

Small models travel well as quantised GGUF files, but tuning needs plain weights. The conversion runs in a
process of its own, so that its memory and the log lines of its libraries never show up in the caller's
figures or on its terminal.

>>> convert_in_own_process(Path("SmolLM2-135M-Instruct.Q4_1.gguf"), Path("smollm2"))  # doctest: +SKIP

What is lost in quantisation stays lost: the result equals the GGUF file, not the model it was made from.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunewise.errors import FetchError, TunewiseError

CONVERSION = 1
"""Raised whenever the same GGUF file would give another folder; older conversions are then made again."""

GPT2 = ("gpt-2", "gpt2")
DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
QWEN2 = ("qwen2", "deepseek-r1-qwen")
LLAMA3 = ("llama-bpe", "llama3", "llama-v3")
PRE_TYPES = (*DIGITS, *GPT2, *LLAMA3, *QWEN2)
"""The values of `tokenizer.ggml.pre` whose way of cutting text into words is known here."""

SPECIAL_TOKENS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
"""The name of a special token in transformers → in the GGUF header."""

TOKENIZER_SETTINGS = (
    *("backend", "tokenizer_class", "model_max_length", "clean_up_tokenization_spaces"),
    *("bos_token", "eos_token", "unk_token", "pad_token", "mask_token", "extra_special_tokens"),
    *("add_bos_token", "add_eos_token"),
)
"""What is kept of the tokenizer settings that transformers writes; the rest is about the GGUF file."""

ROUND_TRIP = (
    "Which of the 365 days in 2024 was it ?",
    "First line.\nSecond  line,\n\n\tindented",
    "naïve café, 東京, ½ and 🙂",
)


def convert_in_own_process(source: Path, target: Path) -> None:
    """Convert the GGUF file `source` into the new folder `target`; raises FetchError with the reason."""
    environment = {
        **os.environ,
        "TQDM_DISABLE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_OFFLINE": "1",  # everything is in the file; nothing is to be looked up
    }
    # The child must find this very package, also when it is used from a checkout that is not installed.
    package_root = str(Path(__file__).resolve().parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "tunewise.convert", str(source), str(target)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    last_line = done.stdout.strip().rpartition("\n")[2]
    if done.returncode == 1 and last_line.startswith('{"error"'):
        raise FetchError(json.loads(last_line)["error"])
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-6:])
        cause = "killed; is there enough memory?" if done.returncode < 0 else "its last lines were:\n" + tail
        raise FetchError(
            f"{source}: converting this GGUF file to safetensors ended with code {done.returncode}, {cause}\n"
            "Give the model's Hugging Face folder (config.json, *.safetensors, tokenizer.json) instead."
        )


def convert(source: Path, target: Path) -> None:
    """Convert `source` into `target` in this process and check the result by loading it again.

    Raises FetchError when the file is no GGUF file, when its architecture or tokenizer is not known, or when
    the folder does not load or does not give text back as it went in.
    """
    try:
        fields = _read_fields(source)
        tie = _convert_weights(source, target)
        _convert_tokenizer(source, target, fields)
    except (ValueError, KeyError, IndexError, NotImplementedError) as error:
        raise FetchError(
            f"{source}: this GGUF file is damaged or of a kind that transformers cannot read: {error}. "
            "Give the model's Hugging Face folder instead."
        ) from error
    _check(source, target, tie)


def _read_fields(source: Path) -> dict[str, Any]:
    """What the GGUF header says of the tokenizer, by the names after `tokenizer.ggml.`."""
    with source.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise FetchError(f"{source}: not a GGUF file; it starts with {magic!r}, expected b'GGUF'.")
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise FetchError(f'{source}: reading GGUF files needs the package "gguf": pip install gguf.') from error
    reader = GGUFReader(str(source))
    wanted = ("model", "pre", *SPECIAL_TOKENS.values())
    keys = {name: f"tokenizer.ggml.{name}" for name in wanted}
    fields = {name: reader.fields[key].contents() for name, key in keys.items() if key in reader.fields}
    pre_type = fields.get("pre")
    if fields.get("model") == "gpt2" and pre_type not in PRE_TYPES:
        raise FetchError(
            f"{source}: its tokenizer cuts text in a way not known here (tokenizer.ggml.pre is {pre_type!r}; "
            f"known: {', '.join(PRE_TYPES)}), so tokens could differ from those the model was trained on. "
            "Give the model's Hugging Face folder instead."
        )
    return fields


def _convert_weights(source: Path, target: Path) -> bool:
    """Write config and weights; returns whether input and output embeddings are one tensor."""
    import torch
    import transformers

    settings: dict[str, Any] = {"gguf_file": source.name, "dtype": torch.bfloat16}
    if hasattr(transformers, "GgufConfig"):
        # Newer versions leave weights in quantised blocks wherever they find kernels for them.
        settings["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(source.parent, **settings)
    # transformers goes on calling the model quantised after expanding the weights, and then refuses to save.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.to(torch.bfloat16)
    model.save_pretrained(target)
    return bool(model.config.tie_word_embeddings)


def _convert_tokenizer(source: Path, target: Path, fields: dict[str, Any]) -> None:
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    backend = tokenizer.backend_tokenizer
    tokenizer.model_max_length = AutoConfig.from_pretrained(target).max_position_embeddings
    # transformers 5.17 takes `<|im_start|>` for SmolLM2's end token: the file's own numbers decide.
    for role, name in SPECIAL_TOKENS.items():
        if name in fields:
            setattr(tokenizer, role, tokenizer.convert_ids_to_tokens(int(fields[name])))
    if fields.get("model") == "gpt2":
        _set_word_level(backend, fields["pre"])
    elif type(backend.model).__name__ != "BPE":
        # transformers 5.17 reads Gemma's vocabulary as a unigram model: "How did" became How, d, id.
        raise FetchError(
            f"{source}: transformers {version('transformers')} does not build this file's tokenizer "
            "faithfully; 5.23 does. Update it (pip install --upgrade transformers), or give the model's "
            "Hugging Face folder."
        )
    tokenizer.save_pretrained(target)
    path = target / "tokenizer_config.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    settings = {key: value for key, value in saved.items() if key in TOKENIZER_SETTINGS}
    settings["clean_up_tokenization_spaces"] = False
    if settings.get("tokenizer_class") == "TokenizersBackend":  # a name that only transformers 5 knows
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _set_word_level(backend: Any, pre_type: str) -> None:
    """Cut text into words as the model's own tokenizer does, before byte-pair merges apply.

    A GGUF file names this step (`tokenizer.ggml.pre`) without spelling it out. For the SmolLM family
    transformers falls back to GPT-2's rule, which takes a number's digits together and with the space before
    them; the family's own tokenizer, and llama.cpp for the type "smollm", first cut off every digit. Tokens
    differ where white space stands before a number: two spaces and a 1 are `ĠĠ`, `1`, not `Ġ`, `Ġ`, `1`.
    """
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    if pre_type in QWEN2:
        backend.normalizer = normalizers.NFC()
    else:
        backend.normalizer = None
    backend.decoder = decoders.ByteLevel()
    if pre_type in GPT2:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        return
    if pre_type in DIGITS:
        steps = [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    else:
        number = r"\p{N}{1,3}" if pre_type in LLAMA3 else r"\p{N}"
        words = (
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
            + number
            + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
        steps = [
            pre_tokenizers.Split(Regex(words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
        # Llama 3 takes a word that is in the vocabulary whole, whatever its merges say.
        backend.model.ignore_merges = pre_type in LLAMA3
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)


def _check(source: Path, target: Path, tie: bool) -> None:
    """Load the folder as a user would: every weight there, one tensor for tied embeddings, text unharmed."""
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM, AutoTokenizer

    names: set[str] = set()
    for path in target.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names.update(file.keys())
    if tie and "lm_head.weight" in names:
        raise FetchError(f"{source}: tied embeddings were written twice; found lm_head.weight in {target}.")
    loaded: Any = AutoModelForCausalLM.from_pretrained(target, dtype=torch.bfloat16, output_loading_info=True)
    model, info = loaded
    lacking = sorted({*info["missing_keys"], *info["unexpected_keys"]})
    if lacking:
        raise FetchError(f"{source}: the converted weights do not fit the model, for example {lacking[0]!r}.")
    tokenizer = AutoTokenizer.from_pretrained(target)
    for text in ROUND_TRIP:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        if back != text:
            raise FetchError(f"{source}: its tokenizer turns {text!r} into {back!r}; expected the same text.")
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits
    if not bool(torch.isfinite(logits).all()):
        raise FetchError(f"{source}: the converted model computes no finite numbers; the file may be damaged.")


def _main(arguments: list[str]) -> int:
    try:
        convert(Path(arguments[0]), Path(arguments[1]))
    except TunewiseError as error:
        print(json.dumps({"error": str(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
