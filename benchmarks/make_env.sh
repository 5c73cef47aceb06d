#!/usr/bin/env bash
# Make the virtual environment of one of the servers that benchmarks/run.py compares.
#   benchmarks/make_env.sh PEER DIR        PYTHON=python3.11 chooses the interpreter; TorchServe also needs a Java runtime
set -euo pipefail
peer=${1:?name a peer} folder=${2:?name a folder}

case $peer in
    fastapi) packages="fastapi uvicorn uvloop httptools" ;;
    litserve) packages="litserve python-multipart" ;;
    mosec) packages="mosec" ;;
    bentoml) packages="bentoml" ;;
    pytriton) packages="nvidia-pytriton" ;;
    torchserve) packages="torchserve torch-model-archiver setuptools<81 packaging psutil pyyaml" ;;
    *) echo "unknown peer $peer" >&2; exit 2 ;;
esac

"${PYTHON:-python3}" -m venv "$folder"
# shellcheck disable=SC2086  # a list
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check torch numpy pillow $packages
