"""Changing single values of params.yaml, its comments and order kept."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tuneline import files


def set_values(path: Path, values: Mapping[str, Any]) -> None:
    """Set keys of a params file, atomically.

    Args:
        path: the file.
        values: dotted key, as in "data.raw" -> value; every key must be there already.

    Raises:
        KeyError: a key is not in the file.
    """
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 200
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    document = yaml.load(path.read_text("utf-8"))
    for key, value in values.items():
        *sections, name = key.split(".")
        node = document
        for section in sections:
            node = node[section]
        if name not in node:
            raise KeyError(key)
        node[name] = value
    text = io.StringIO()
    yaml.dump(document, text)
    files.write_text(path, text.getvalue())
