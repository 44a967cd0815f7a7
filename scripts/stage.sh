#!/bin/sh
# Runs a stage of dvc.yaml with the project's own Python: `sh scripts/stage.sh NAME`, in the project's root. The PATH that
# DVC gives to a stage may have no `python`, or that of another environment. Without .venv, this uses the `python` on the
# PATH if it has the project's packages. The stage dies with the dvc that started it; the flow has set its id.
export TUNELINE_PARENT="${TUNELINE_PARENT:-$PPID}"
if [ -x .venv/bin/python ]; then
    exec .venv/bin/python -m tuneline.stages "$@"
fi
# `dvc exp run --temp` and `--queue` run in a copy of the project below its .dvc/tmp/exps, without .venv: there the
# project's Python runs the code of the copy.
project=${PWD%/.dvc/tmp/exps/*}
if [ "$project" != "$PWD" ] && [ -x "$project/.venv/bin/python" ]; then
    export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
    exec "$project/.venv/bin/python" -m tuneline.stages "$@"
fi
command -v python >/dev/null 2>&1 && python -c 'import tuneline' 2>/dev/null || {
    echo "error: $(pwd)/.venv/bin/python is missing, and the python on the PATH does not have tuneline; run: make setup" >&2
    exit 1
}
exec python -m tuneline.stages "$@"
