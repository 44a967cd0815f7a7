#!/bin/sh
# Pins every dependency in requirements.lock for all supported Pythons. torch stays apart (requirements-torch.lock),
# and so does what only its CUDA build needs: the build is chosen when it is installed.
set -eu
cd "$(dirname "$0")/.."
{
    echo "# Made by scripts/lock.sh from pyproject.toml. torch: requirements-torch.lock."
    .venv/bin/python -m uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
        --group dev --constraint requirements-torch.lock --no-emit-package torch pyproject.toml |
        grep -vE '^(nvidia-|cuda-|triton)'
} >requirements.lock.partial
mv requirements.lock.partial requirements.lock
# What each extra needs besides that, in a lock of its own: the first installation does not grow with them.
for extra in $(.venv/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"])'); do
    {
        echo "# Made by scripts/lock.sh from pyproject.toml: what the extra '$extra' needs besides requirements.lock."
        .venv/bin/python -m uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
            --extra "$extra" --constraint requirements.lock --constraint requirements-torch.lock \
            --no-emit-package torch pyproject.toml |
            grep -vE '^(nvidia-|cuda-|triton)' | grep -vxFf requirements.lock
    } >"requirements-$extra.lock.partial"
    mv "requirements-$extra.lock.partial" "requirements-$extra.lock"
done
# The arguments that params.yaml may give to transformers, trl and peft: read from the locked versions.
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
grep -E '^(transformers|trl|peft)==' requirements.lock >"$folder/requirements"
.venv/bin/python -m uv pip install --quiet --no-deps --target "$folder" --requirement "$folder/requirements"
.venv/bin/python scripts/library_arguments.py "$folder" >"$folder/made.py"
mv "$folder/made.py" src/tuneline/params/library_arguments.py
# What decides over the bits of a model and of its measures: a stage that trains depends on these, not on every tool.
cat requirements.lock requirements-torch.lock |
    grep -E '^(accelerate|numpy|peft|safetensors|scikit-learn|scipy|tokenizers|torch|transformers|trl)==' >requirements-training.lock
