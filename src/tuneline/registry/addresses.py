"""Where the MLflow UI shows what: pages of a server, by its address."""

import http.client
import json
import urllib.parse
import urllib.request

OF_TRAINING = "?workflowType=machine_learning"
"""Without it the UI opens in its view of GenAI applications, which has no entry for models."""
_PATIENCE = 20.0


def pages(address: str, model: str | None) -> dict[str, str]:
    """The pages that people look for.

    Args:
        address: of an MLflow server that answers.
        model: the registered model's name, which is its experiment's too; None where it is not known.

    Returns:
        What a page shows -> its address; of the model and its runs only as far as they are there.
    """
    found = {}
    if model and _get(address, "registered-models/get", ("registered_model", "name"), name=model):
        found[f"model {model}"] = f"{address}/#/models/{urllib.parse.quote(model)}{OF_TRAINING}"
    found["all models"] = f"{address}/#/models{OF_TRAINING}"
    place = ("experiment", "experiment_id")
    if model and (number := _get(address, "experiments/get-by-name", place, experiment_name=model)):
        found["training runs"] = f"{address}/#/experiments/{number}/runs{OF_TRAINING}"
    return found


def without_login(address: str) -> str:
    """The address as others may see it: a link in a report names no user and no password."""
    parts = urllib.parse.urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _get(address: str, method: str, place: tuple[str, str], **values: str) -> str | None:
    """A value of what MLflow's REST API answers; None where there is no such thing, or something else answers."""
    url = f"{address}/api/2.0/mlflow/{method}?{urllib.parse.urlencode(values)}"
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE) as answer:
            return json.load(answer)[place[0]][place[1]]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        # URLError and TimeoutError are OSErrors; a page of a proxy is no JSON, or JSON of another shape.
        return None
