#!/usr/bin/env bash
# On a worker: Python, the package with the pinned jax and libtpu, the bucket as a folder. setup.sh BUCKET JAX LIBTPU
set -euo pipefail
BUCKET="$1" JAX="$2" LIBTPU="$3"
cd "$HOME"
chmod 600 keys.env
mv keys.env sgtr-jax/.env

# The images bring Python 3.10, which is too old; uv fetches one.
export PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || python3 -m pip install --quiet --user uv
[ -x venv/bin/python ] || uv venv --quiet --python 3.12 venv
uv pip install --quiet --python venv/bin/python --constraint sgtr-jax/constraints.txt "$JAX" "$LIBTPU" -e "sgtr-jax[gcs]"

bash sgtr-jax/tpu/on_vm/mount.sh "$BUCKET"

venv/bin/python - "$JAX" "$LIBTPU" <<'PYTHON'
import importlib.metadata, sys

for pin in sys.argv[1:]:
    name, wanted = pin.split("==")
    found = importlib.metadata.version(name)
    assert found == wanted, f"{name} is {found}, expected {wanted}"
print("set up:", *sys.argv[1:], "sgtr-jax", importlib.metadata.version("sgtr-jax"))
PYTHON
