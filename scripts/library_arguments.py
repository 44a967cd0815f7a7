"""Write src/tuneline/params/library_arguments.py from the sources of transformers, trl and peft.

    python scripts/library_arguments.py FOLDER > src/tuneline/params/library_arguments.py

FOLDER is a site-packages folder with the three libraries, which are read and not imported.
"""

import ast
import sys
from pathlib import Path

_CLASSES = {
    "TrainingArguments": "transformers/training_args.py",
    "DPOConfig": "trl/trainer/dpo_config.py",
    "LoraConfig": "peft/tuners/lora/config.py",
}
_ENUMERATIONS = {
    "OPTIMIZERS": ("OptimizerNames", "transformers/training_args.py"),
    "SCHEDULERS": ("SchedulerType", "transformers/trainer_utils.py"),
}
_TYPES = {
    "bool": "bool", "int": "Integer", "float": "float", "str": "str", "list": "list", "dict": "dict", "tuple": "list",
    "Any": "Any", "OptimizerNames": "str", "SchedulerType": "str",
}  # fmt: skip
_HEADER = '''# Made by scripts/library_arguments.py from {versions}. Do not edit.
# ruff: noqa: E501
# fmt: off
"""The arguments of TrainingArguments, DPOConfig and LoraConfig, with the types that YAML can hold.

A key that is left out is None and has the default of its library.
"""

from typing import Any, Literal

from tuneline.params.section import Integer, Section, Unholdable

_ABSENT: Any = None
'''


def render(folder: Path) -> str:
    """The module as text.

    Args:
        folder: site-packages with transformers, trl and peft.
    """
    versions = ", ".join(_version(folder, library) for library in ("transformers", "trl", "peft"))
    lines = [_HEADER.format(versions=versions)]
    for name, (enumeration, path) in _ENUMERATIONS.items():
        lines.append(f"{name} = {_members(folder / path, enumeration)!r}".replace("'", '"'))
    for name, path in _CLASSES.items():
        lines += ["", "", f"class {name}(Section):"]
        for argument, annotation in _arguments(folder / path, name).items():
            lines.append(f"    {argument}: {_type(annotation) or 'Unholdable'} = _ABSENT")
    return "\n".join(lines) + "\n"


def _version(folder: Path, library: str) -> str:
    (metadata,) = folder.glob(f"{library}-*.dist-info")
    return metadata.name.removesuffix(".dist-info").replace("-", " ")


def _class(source: Path, name: str) -> ast.ClassDef:
    body = ast.parse(source.read_text("utf-8")).body
    return next(node for node in body if isinstance(node, ast.ClassDef) and node.name == name)


def _members(source: Path, enumeration: str) -> tuple[str, ...]:
    values = [statement.value for statement in _class(source, enumeration).body if isinstance(statement, ast.Assign)]
    return tuple(value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str))


def _arguments(source: Path, class_name: str) -> dict[str, ast.expr]:
    return {
        statement.target.id: statement.annotation
        for statement in _class(source, class_name).body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }


def _type(node: ast.expr) -> str | None:
    """The annotation as far as YAML can hold its values; None where it cannot."""
    match node:
        case ast.Constant(value=None):
            return "None"
        case ast.Name(id=name) if name in _TYPES:
            return _TYPES[name]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _union([left, right])
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return _union([inner, ast.Constant(None)])
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
            return _union(parts)
        case ast.Subscript(value=ast.Name(id="Literal")):
            return ast.unparse(node).replace("'", '"')
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            kind = _type(inner)
            return f"list[{kind}]" if kind else None
        case ast.Subscript(value=ast.Name(id="dict")):
            return "dict"
    return None


def _union(parts: list[ast.expr]) -> str | None:
    known = {kind: None for part in parts for kind in (_type(part) or "").split(" | ") if kind}
    return " | ".join(sorted(known, key="None".__eq__)) if set(known) - {"None"} else None


if __name__ == "__main__":
    sys.stdout.write(render(Path(sys.argv[1])))
