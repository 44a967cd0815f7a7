#!/bin/sh
# Becomes a stage of dvc.yaml: `sh scripts/stage.sh NAME`, in the project's root, under the project's own Python. DVC
# gives its stages the PATH of whoever called it, where `python` may be missing, or be another environment's.
# Without .venv it is the `python` on the PATH, if it has the project's packages.
# The stage dies with the dvc that started it: the flow has named that one, before it could be gone.
export TUNELINE_PARENT="${TUNELINE_PARENT:-$PPID}"
if [ -x .venv/bin/python ]; then
    exec .venv/bin/python -m tuneline.stages "$@"
fi
# `dvc exp run --temp` and `--queue` run in a copy of the project below its .dvc/tmp/exps, without .venv: the project's
# Python serves the copy's own code.
project=${PWD%/.dvc/tmp/exps/*}
if [ "$project" != "$PWD" ] && [ -x "$project/.venv/bin/python" ]; then
    export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
    exec "$project/.venv/bin/python" -m tuneline.stages "$@"
fi
command -v python >/dev/null 2>&1 && python -c 'import tuneline' 2>/dev/null || {
    echo "error: $(pwd)/.venv/bin/python is not there, and the python on the PATH does not have tuneline; run: make setup" >&2
    exit 1
}
exec python -m tuneline.stages "$@"
