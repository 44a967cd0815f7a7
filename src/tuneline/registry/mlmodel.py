"""The file MLmodel of a version, by which every MLflow client loads it, and the check of the files that it names.

It names a module of this package that loads the model, so the folder holds neither a pickle nor Python code.
"""

import io
import json
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tuneline import __version__, params
from tuneline.core import bounded_yaml, files
from tuneline.encoding.examples import CHAT, CLASSIFICATION, REGRESSION
from tuneline.errors import BrokenVersionError, one_line
from tuneline.modeling.model_folder import stored_mode
from tuneline.registry import version_files
from tuneline.registry.version_files import MLMODEL

LOADER = "tuneline.pyfunc"
"""The module that MLflow imports to load a version. Registered versions name it, so it keeps its name."""
PROMPT, TEXT, MESSAGES, TOOLS, ERROR = "prompt", "text", "messages", "tools", "error"
"""Columns of the frames that a model takes and gives."""
MAX_NEW_TOKENS = "max_new_tokens"
"""The parameter of a call for models that write text."""
_FLAVOUR = "python_function"
_OWN, _FILES = "tuneline", "files"
_EXAMPLE, _SERVING_EXAMPLE = version_files.EXAMPLES
_ASKED = "Hello."
_WIDE = 1 << 16
"""Characters of a line, so that no value is wrapped."""
_ANY: dict[str, Any] = {"type": "any"}


def write(folder: Path, p: params.Params) -> None:
    """Write MLmodel and the input example into the folder of a new version.

    Args:
        folder: holds everything that the answers depend on.
        p: the params of the version.
    """
    mode = stored_mode(folder)
    example = {"columns": [columns_of(mode)[0]], "data": [[_example(mode)]]}
    files.write_json(folder / _EXAMPLE, example)
    files.write_json(folder / _SERVING_EXAMPLE, {"dataframe_split": example})
    value = {
        "flavors": {_FLAVOUR: {"loader_module": LOADER, "python_version": platform.python_version()}},
        "mlflow_version": metadata.version("mlflow"),
        "model_size_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "saved_input_example_info": {
            "artifact_path": _EXAMPLE,
            "pandas_orient": "split",
            "serving_input_path": _SERVING_EXAMPLE,
            "type": "dataframe",
        },
        "signature": _signature(folder, mode, p),
        "utc_time_created": str(datetime.now(UTC).replace(tzinfo=None)),
        "metadata": {
            _OWN: {
                "task": p.task,
                "version": __version__,
                _FILES: version_files.sha256_tree(folder),
            }
        },
    }
    writer, text = YAML(typ="safe", pure=True), io.StringIO()
    writer.default_flow_style, writer.width = False, _WIDE
    writer.dump(value, text)
    files.write_text(folder / MLMODEL, text.getvalue())


def columns_of(mode: str) -> tuple[str, ...]:
    """The columns of which a frame must have one, for a model of this mode."""
    if mode in (CLASSIFICATION, REGRESSION):
        return TEXT, PROMPT
    return (MESSAGES, PROMPT, TEXT) if mode == CHAT else (PROMPT, TEXT)


def _example(mode: str) -> Any:
    return [{"role": "user", "content": _ASKED}] if mode == CHAT else _ASKED


def _signature(folder: Path, mode: str, p: params.Params) -> dict[str, str | None]:
    """The schema of the frames as MLflow writes it: JSON texts."""
    # MLflow drops a column that the schema does not have. Lists of turns have no type of their own; texts are strings,
    # because MLflow's server reads no CSV and Spark no frame for the type any.
    inputs = [_column(name, _ANY if name == MESSAGES else "string") for name in columns_of(mode)]
    inputs += [_column(TOOLS, _ANY)] if mode == CHAT else []
    outputs = [_column(name, kind) for name, kind in _answer_types(folder, mode).items()]
    limit = {
        "name": MAX_NEW_TOKENS,
        "default": p.evaluate.max_new_tokens,
        "shape": None,
        "type": "long",
    }
    return {
        "inputs": json.dumps(inputs),
        "outputs": json.dumps([*outputs, _column(ERROR, "string")]),
        "params": None if mode in (CLASSIFICATION, REGRESSION) else json.dumps([limit]),
    }


def _answer_types(folder: Path, mode: str) -> dict[str, Any]:
    if mode == REGRESSION:
        return {"number": "double"}
    if mode != CLASSIFICATION:
        return {"answer": "string"}
    problem = files.read_json(folder / "config.json").get("problem_type")
    if problem == "multi_label_classification":
        return {
            "label": {"type": "array", "items": {"type": "string"}},
            "probability": {"type": "array", "items": {"type": "double"}},
        }
    return {"label": "string", "probability": "double"}


def _column(name: str, kind: Any) -> dict[str, Any]:
    return {**(kind if isinstance(kind, dict) else {"type": kind}), "name": name, "required": False}


def check_files(folder: Path) -> None:
    """Raise where the files of a folder are not those that its MLmodel names; every byte is hashed.

    Args:
        folder: of a version, as MLflow has downloaded it.

    Raises:
        BrokenVersionError: a file was changed, removed or added since the version was registered.
    """
    expected = _manifest(folder)
    found = version_files.sha256_tree(folder)
    described = {name: digest for name, digest in found.items() if name not in version_files.DESCRIPTIONS}
    lines = [
        *(f"{name} is missing" for name in expected if name not in described),
        *(f"{name} was added" for name in described if name not in expected),
        *(
            f"{name} has the sha256 {described[name][:12]}… instead of {digest[:12]}…"
            for name, digest in expected.items()
            if name in described and described[name] != digest
        ),
    ]
    if lines:
        reason = f"its files are not those that were registered: {'; '.join(lines)}; load another version"
        raise BrokenVersionError(str(folder), reason)


def _manifest(folder: Path) -> dict[str, str]:
    path = folder / MLMODEL
    try:
        value = bounded_yaml.load(path.read_text("utf-8"), "safe")["metadata"][_OWN][_FILES]
    except (OSError, YAMLError, UnicodeDecodeError, LookupError, TypeError) as error:
        reason = f"its {MLMODEL} does not name the files that were registered ({one_line(error)})"
        raise BrokenVersionError(str(folder), reason) from None
    if not isinstance(value, dict) or not value:
        raise BrokenVersionError(str(folder), f"its {MLMODEL} does not name the files that were registered")
    return {str(name): str(digest) for name, digest in value.items()}
