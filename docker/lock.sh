#!/usr/bin/env bash
# Rewrite the lock files of the image from pyproject.toml; needs uv.
set -euo pipefail
cd "$(dirname "$0")/.."
export UV_CUSTOM_COMPILE_COMMAND=docker/lock.sh
compile=(uv --config-file docker/uv.toml pip compile --quiet --universal --python-version 3.11 --generate-hashes)
"${compile[@]}" --no-emit-package torch --output-file docker/requirements.txt "$@" pyproject.toml
"${compile[@]}" --output-file docker/build-requirements.txt "$@" - <<<hatchling
extra='import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["gpu"])'
"${compile[@]}" --output-file docker/gpu-requirements.txt "$@" - < <(python3 -c "$extra")
