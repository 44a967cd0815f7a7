#!/bin/sh
# The tracking server of mlflow/store. `make ui` starts it for this machine only; for a team, run it on a shared machine:
#   MLFLOW_HOST=0.0.0.0 MLFLOW_SERVER_ALLOWED_HOSTS=that-host:5000 .venv/bin/tuneline exec -- sh mlflow/server.sh
# where that-host is the machine's name (the server accepts no other name, and everyone who reaches it can change its
# content). Then set MLFLOW_TRACKING_URI=http://that-host:5000 in everyone's mlflow/tuneline.env.
set -eu
: "${TUNELINE_ROOT:?start this through: .venv/bin/tuneline exec -- sh mlflow/server.sh}"
store="$TUNELINE_ROOT/mlflow/store"
mkdir -p "$store"
exec python -m mlflow server \
    --backend-store-uri "sqlite:///$store/mlflow.db" \
    --artifacts-destination "$store/artifacts" \
    --host "${MLFLOW_HOST:-127.0.0.1}" \
    --port "${MLFLOW_PORT:-5000}" \
    --workers 1
