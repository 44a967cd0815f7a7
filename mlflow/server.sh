#!/bin/sh
# The tracking server of mlflow/store. `make ui` starts it for this machine only; for a team, run it on a shared machine:
#   MLFLOW_HOST=0.0.0.0 MLFLOW_SERVER_ALLOWED_HOSTS=that-host .venv/bin/tuneline exec -- sh mlflow/server.sh
# where that-host is the name by which people reach the machine; several names are separated by commas. Everyone who
# reaches it can change its content. Then set MLFLOW_TRACKING_URI=http://that-host:5000 in everyone's mlflow/tuneline.env.
set -euf
: "${TUNELINE_ROOT:?start this through: .venv/bin/tuneline exec -- sh mlflow/server.sh}"
store="$TUNELINE_ROOT/mlflow/store"
port="${MLFLOW_PORT:-5000}"

# MLflow compares the Host header, port included, and the Origin of every change that a browser asks for; without these it
# answers 403 "Invalid Host header" or "Cross-origin request blocked". Its own default also accepts names such as
# 10.example, so this machine's own names are always given.
hosts="localhost,localhost:*,127.0.0.1,127.0.0.1:*"
origins="${MLFLOW_SERVER_CORS_ALLOWED_ORIGINS:-}"
for name in $(printf '%s' "${MLFLOW_SERVER_ALLOWED_HOSTS:-}" | tr ',' ' '); do
    case "$name" in
        localhost | 127.0.0.1 | 'localhost:*' | '127.0.0.1:*') continue ;;
        *[!]A-Za-z0-9.:_[-]*)
            echo "MLFLOW_SERVER_ALLOWED_HOSTS: $name is not the name of a host, such as mlflow.example or" \
                "mlflow.example:8080; with a pattern, any web page could reach the server through a name of its own" >&2
            exit 1
            ;;
    esac
    hosts="$hosts,$name"
    origins="${origins:+$origins,}http://$name,https://$name"
    case "$name" in
        *:* ) ;;
        *)
            hosts="$hosts,$name:$port"
            origins="$origins,http://$name:$port,https://$name:$port"
            ;;
    esac
done
export MLFLOW_SERVER_ALLOWED_HOSTS="$hosts"
export MLFLOW_SERVER_CORS_ALLOWED_ORIGINS="$origins"

mkdir -p "$store"
exec python -m mlflow server \
    --backend-store-uri "sqlite:///$store/mlflow.db" \
    --artifacts-destination "$store/artifacts" \
    --host "${MLFLOW_HOST:-127.0.0.1}" \
    --port "$port" \
    --workers 1
