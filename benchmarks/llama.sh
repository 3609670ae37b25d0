#!/usr/bin/env bash
# Build llama-cpp-python into the peers' environment, for this machine's own instructions; a few minutes.
# Without a compiler and cmake nothing is built, and benchmarks/generating.py says that the peer is left out.
set -euo pipefail
python=$1
for tool in c++ cmake; do
  if ! command -v "$tool" >/dev/null; then
    echo "llama-cpp-python is left out: it is built from source, and $tool is not installed" >&2
    exit 0
  fi
done
# Only the library is built: no programs, no image models.
export CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF"
"$python" -m pip install -c constraints.txt -c benchmarks/constraints.txt 'llama-cpp-python[server]' ||
  echo "llama-cpp-python is left out: it could not be built; what pip says above tells why" >&2
