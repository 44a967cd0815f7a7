"""Sources of a base: a folder on this machine, or a revision on the Hugging Face hub. Files are copied one by one."""

import re
from pathlib import Path

import httpx
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from ruamel.yaml.error import YAMLError

from tuneline.core import bounded_yaml, files
from tuneline.errors import ModelError, as_full_disk_error, one_line
from tuneline.modeling import models, unsafe_files
from tuneline.modeling.model_folder import MODE_FILE, stored_mode

_COPIED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "LICENSE*", "NOTICE*")
"""The files of a model that are copied: no code and no pickle."""
_REMEDIES = {True: "replace it by the file itself", False: "remove it"}
"""Whether a foreign file is a link -> what to do with it."""
_REVISION = re.compile(r"[0-9a-f]{40}")
_SECONDS_TO_CONNECT = 10
_SNAPSHOTS = "snapshots"
"""The folder of a model's revisions in the cache of the hub's library."""


def copy(source: Path, folder: Path) -> None:
    """Copy a model folder, after a check that it can be loaded.

    Args:
        source: a folder that save_pretrained wrote.
        folder: the folder to write or replace.

    Raises:
        ModelError: transformers cannot load the model and its tokenizer, the folder has foreign files, or files change
            while they are copied.
    """
    if source.is_dir() and (foreign := unsafe_files.foreign(source)):
        raise ModelError(*(f"{path}: {what}; {_REMEDIES[path.is_symlink()]}" for path, what in foreign.items()))
    before = {path: files.sha256_file(path) for path in _copied(source)}
    try:
        models.load_base(source)
        mode = stored_mode(source)
    except ModelError as error:
        if source.parent.name != _SNAPSHOTS:
            raise
        remedy = f"the download may be incomplete: delete {source.parents[1]}, and run the same command again"
        raise ModelError(*error.problems, remedy) from None
    with files.atomic_folder(folder) as temporary:
        # Only bytes that were loaded are copied.
        for path, digest in before.items():
            try:
                files.copy(path, temporary / path.name)
            except FileNotFoundError:
                raise _changed(path) from None
            if files.sha256_file(temporary / path.name) != digest:
                raise _changed(path)
        if new := set(_copied(source)) ^ before.keys():
            raise _changed(*new)
        files.write_json(temporary / MODE_FILE, {"mode": mode})


def _copied(source: Path) -> list[Path]:
    return sorted({path for pattern in _COPIED for path in source.glob(pattern) if path.is_file()})


def _changed(*paths: Path) -> ModelError:
    remedy = "changed while it was copied; stop what writes there, and run the same command again"
    return ModelError(*(f"{path}: {remedy}" for path in sorted(paths)))


def fetch(reference: Path, cache: Path) -> Path:
    """Fetch the revision that a YAML file names. A revision in the cache needs no network.

    Args:
        reference: a YAML file with `id` and `revision`.
        cache: the folder of downloads.

    Returns:
        The folder of the snapshot.

    Raises:
        ModelError: the file is wrong, or the hub does not answer or does not have the revision.
    """
    name, revision = read_reference(reference)
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                cache_dir=cache,
                allow_patterns=list(_COPIED),
                etag_timeout=_SECONDS_TO_CONNECT,
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.HTTPError, OSError) as error:
        if isinstance(error, OSError) and as_full_disk_error(error):
            raise
        raise ModelError(_why_not_fetched(name, revision, reference, error)) from None


def read_reference(reference: Path) -> tuple[str, str]:
    """The id and the full revision that a YAML file names.

    Raises:
        ModelError: id or revision is missing, or the revision is not a commit.
    """
    try:
        # All values stay text. YAML would make a number of a revision of digits only, or with one e.
        value = bounded_yaml.load(reference.read_text("utf-8"), "base")
    except FileNotFoundError:
        raise ModelError(f"{reference}: no such file; write `id: OWNER/NAME` and `revision: COMMIT` into it") from None
    except (YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise ModelError(f"{reference}: cannot be read as YAML: {one_line(error)}") from None
    value = value if isinstance(value, dict) else {}
    name, revision = value.get("id"), value.get("revision")
    problems = [
        f"{reference}: {key}: unknown key; known: id, revision" for key in value if key not in ("id", "revision")
    ]
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        problems.append(f"{reference}: id: {name!r} is not an id of the hub; write it as OWNER/NAME")
    if not isinstance(revision, str) or not _REVISION.fullmatch(revision):
        found = f"{revision!r} is not a commit, and can be another model tomorrow" if revision else "missing"
        problems.append(
            f"{reference}: revision: {found}; write the commit's 40 hex digits, as "
            f"`git ls-remote https://huggingface.co/{name or 'OWNER/NAME'} {revision or 'HEAD'}` prints them"
        )
    if problems:
        raise ModelError(*problems)
    return str(name), str(revision)


def _why_not_fetched(name: str, revision: str, reference: Path, error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403, 404):
        return (
            f"{reference}: the hub does not give {name} at {revision} (status {status}); check id and revision, "
            "and for a gated model set HF_TOKEN"
        )
    return (
        f"{reference}: {name} at {revision[:12]} is not in the cache, and the hub does not answer; connect to the "
        "network, or download it elsewhere and set base.source: path"
    )
