"""The signature of a version's folder, in the OpenSSF model-signing format v1.0: a sigstore bundle in `model.sig`.

Only this file imports model_signing. Its verifier lets a signature name paths to ignore; here every file counts, except
the signature itself and `NOT_SIGNED`.
"""

import base64
import binascii
import contextlib
import io
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cryptography.exceptions import InvalidSignature
from model_signing import hashing, manifest, signing, verifying

from tuneline.core import files
from tuneline.errors import SignatureError
from tuneline.proofs import keys
from tuneline.proofs.keys import PrivateKey, PublicKey
from tuneline.registry import version_files

SIGNATURE = "model.sig"
"""The name of the signature in the folder that it signs."""
NOT_SIGNED = version_files.ADDED_BY_MLFLOW
"""Files that a signed folder may have in addition, because MLflow writes them when it loads the model."""
_IGNORED = (SIGNATURE, *NOT_SIGNED)
_LARGEST = 1 << 24
"""Bytes of a signature; it has about 200 for each file of the model."""
_NAMED = 5
"""The most files that a message names."""
_STATEMENT = "https://model_signing/signature/v1.0"
_DO_NOT_USE = "do not use this model; get it again from its source"


def sign(folder: Path, key: PrivateKey) -> None:
    """Write `model.sig`, which names the sha256 of every other file of the folder, and is signed with the key.

    Links to files count as the files, because a copy of the folder holds the files.

    Args:
        folder: of the model; its name is the name of the model in the signature.
        key: of this machine.

    Raises:
        SignatureError: the folder has no file, or holds what is neither a file nor a folder.
    """
    _refuse_special(folder, links=True)
    # Beside the folder, because a file inside would be signed too.
    with tempfile.TemporaryDirectory() as beside:
        made = Path(beside) / SIGNATURE
        config = signing.Config().set_hashing_config(_LinkedFiles())
        # The library declares the password a string and needs bytes.
        password: Any = key.password
        config.use_elliptic_key_signer(private_key=key.path, password=password).sign(folder, made)
        files.write_text(folder / SIGNATURE, made.read_text("utf-8"))


def is_signed(folder: Path) -> bool:
    """Whether the folder has a signature, valid or not."""
    return os.path.lexists(folder / SIGNATURE)


def verify(folder: Path, public_keys: Sequence[Path]) -> str:
    """Check that one of the keys has signed this folder, and that it holds exactly the files that were signed.

    Args:
        folder: of the model.
        public_keys: the files of the keys that are trusted.

    Returns:
        The name of the key.

    Raises:
        SignatureError: the folder is unsigned, or its files or the signature were changed, or another key signed it.
    """
    trusted = keys.read_publics(public_keys)
    if not folder.is_dir():
        fact = "is not a folder" if os.path.lexists(folder) else "does not exist"
        raise SignatureError(f"{folder}: {fact}; name the folder of a model")
    if not is_signed(folder):
        if not any(folder.iterdir()):
            raise SignatureError(f"{folder}: is empty; its files were deleted, or were never copied here")
        raise SignatureError(f"{folder}: is not signed: it has no file {SIGNATURE}; get a signed copy from its source")
    _refuse_special(folder, links=False)
    bundle = _read_bundle(folder / SIGNATURE)
    key = _key_of(bundle, trusted)
    hashed = _hashing_of(bundle)
    config = verifying.Config().set_hashing_config(hashed).use_elliptic_key_verifier(public_key=key.path)
    try:
        # The library prints a warning about signatures of its earlier releases.
        with contextlib.redirect_stdout(io.StringIO()):
            # A link to the folder itself is harmless, and the library refuses it.
            config.verify(folder.resolve(), bundle.path)
    except InvalidSignature:
        raise SignatureError(
            f"{bundle.path}: was not made with the key {key.name}, although it says so, or was changed; {_DO_NOT_USE}"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if hashed.found is None:
            raise _damaged(bundle.path, str(error)) from None
        raise SignatureError(*_differences(folder, hashed.found, bundle.statement)) from None
    return key.name


class _EveryFile(hashing.Config):
    """Hashes every file of a folder but those of `_IGNORED`, and remembers the result."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] | None = None
        """Path -> digest; None until the folder was hashed."""
        self.set_ignored_paths(paths=_IGNORED, ignore_git_paths=False)

    def add_ignored_paths(self, *, model_path: hashing.PathLike, paths: Iterable[hashing.PathLike]) -> None:
        """Called with the paths that a signature wants to be ignored: none is."""

    def hash(
        self, model_path: hashing.PathLike, *, files_to_hash: Iterable[hashing.PathLike] | None = None
    ) -> manifest.Manifest:
        made = super().hash(model_path, files_to_hash=files_to_hash)
        self.found = {one.identifier: one.digest.digest_hex for one in made.resource_descriptors()}
        return made


class _LinkedFiles(_EveryFile):
    """Hashes what the links in a folder point to, and describes it as the files that a copy of the folder holds."""

    def hash(
        self, model_path: hashing.PathLike, *, files_to_hash: Iterable[hashing.PathLike] | None = None
    ) -> manifest.Manifest:
        self.set_allow_symlinks(True)
        made = super().hash(model_path, files_to_hash=files_to_hash)
        copied = manifest.SerializationType.from_args({**made.serialization_type, "allow_symlinks": False})
        items = [copied.new_item(one.identifier, one.digest) for one in made.resource_descriptors()]
        return manifest.Manifest(made.model_name, items, copied)


@dataclass(frozen=True)
class _Bundle:
    """What a signature says, before anything of it is believed."""

    path: Path
    key_id: str | None
    """Of the key; None in signatures of the library's earlier releases."""
    statement: Mapping[str, Any]


def _read_bundle(path: Path) -> _Bundle:
    """The content of a signature.

    Raises:
        SignatureError: it is not a complete sigstore bundle with a statement of the format v1.0.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise SignatureError(f"{path}: is larger than {_LARGEST:,} bytes, so it is not a signature; {_DO_NOT_USE}")
    if not content.strip():
        raise _damaged(path, "it is empty")
    try:
        value = json.loads(content.decode("utf-8"))
        material, envelope = value["verificationMaterial"], value["dsseEnvelope"]
        if "publicKey" not in material:
            raise SignatureError(
                f"{path}: was not signed with a key but in another way of the format, which this command does not "
                "check; use: model_signing verify --help"
            )
        key_id = material["publicKey"].get("hint")
        statement = json.loads(base64.b64decode(envelope["payload"], validate=True).decode("utf-8"))
        kind, serialization = statement["predicateType"], statement["predicate"]["serialization"]
        names = [one["name"] for one in statement["predicate"]["resources"]]
        complete = [value["mediaType"], envelope["payloadType"], envelope["signatures"][0]["sig"], kind, *names]
        complete += [serialization["method"], serialization["hash_type"], "" if key_id is None else key_id]
        if not all(isinstance(one, str) for one in complete):
            raise _damaged(path, "a text is missing")
    except RecursionError:
        raise _damaged(path, "it nests too deep") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, binascii.Error) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from None
    if kind != _STATEMENT:
        raise SignatureError(f"{path}: is about {kind}, not {_STATEMENT}; sign the model again in the format v1.0")
    return _Bundle(path, key_id or None, statement)


def _damaged(path: Path, how: str) -> SignatureError:
    return SignatureError(f"{path}: is damaged or cut off ({' '.join(how.split())[:200]}); {_DO_NOT_USE}")


def _key_of(bundle: _Bundle, trusted: Sequence[PublicKey]) -> PublicKey:
    """The trusted key that made the signature, as far as the signature says.

    Raises:
        SignatureError: another key made it.
    """
    found = next((key for key in trusted if key.id == bundle.key_id), None)
    if found is None and bundle.key_id is None:
        found = next((key for key in trusted if _has_signed(key, bundle)), None)
    if found is None:
        which = f"the key {bundle.key_id[:12]}…" if bundle.key_id else "a key that it does not name"
        known = ", ".join(f"{key.name} ({key.id[:12]}…)" for key in trusted) or "none"
        raise SignatureError(
            f"{bundle.path}: was made with {which}, which is not trusted; trusted: {known}; if you trust who signed "
            "it, get their public key from them and give it with --key, or put it into mlflow/keys"
        )
    return found


def _has_signed(key: PublicKey, bundle: _Bundle) -> bool:
    envelope = json.loads(bundle.path.read_bytes())["dsseEnvelope"]
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    data = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    try:
        return key.has_signed(base64.b64decode(envelope["signatures"][0]["sig"], validate=True), data)
    except binascii.Error:
        return False


def _hashing_of(bundle: _Bundle) -> _EveryFile:
    """How the files were hashed for the signature.

    Raises:
        SignatureError: in a way that the library does not know.
    """
    wanted, config = bundle.statement["predicate"]["serialization"], _EveryFile()
    algorithm, method = wanted["hash_type"], wanted["method"]
    try:
        if method == "files":
            config.use_file_serialization(hashing_algorithm=algorithm)
        elif method == "shards" and isinstance(wanted.get("shard_size"), int) and wanted["shard_size"] > 0:
            config.use_shard_serialization(hashing_algorithm=algorithm, shard_size=wanted["shard_size"])
        else:
            raise _damaged(bundle.path, f"it hashes by {method}")
    except ValueError as error:
        raise _damaged(bundle.path, str(error)) from None
    return config


def _differences(folder: Path, found: Mapping[str, str], statement: Mapping[str, Any]) -> Iterator[str]:
    """How the files differ from those of a statement whose signature is valid, in lines."""
    signed = {one["name"]: one["digest"] for one in statement["predicate"]["resources"]}
    outside = [name for name in signed if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    changed = [name for name in signed if name in found and found[name] != signed[name]]
    kinds = {
        "was changed since it was signed": changed,
        "was added after the folder was signed": [name for name in found if name not in signed],
        "was signed, but is missing": [name for name in signed if name not in found and name not in outside],
        "was signed, but is outside the folder": outside,
    }
    for fact, names in kinds.items():
        for name in sorted(names)[:_NAMED]:
            yield f"{folder / name}: {fact}"
        if len(names) > _NAMED:
            yield f"{folder}: {len(names) - _NAMED:,} more: {fact}"
    yield f"{folder}: is not as it was signed; {_DO_NOT_USE}"


def _refuse_special(folder: Path, *, links: bool) -> None:
    """Raise where the folder holds what a signature cannot cover: links, sockets, folders behind links, no file at all.

    Args:
        folder: of the model.
        links: whether links to files may be in it.
    """
    problems, count = [], 0
    for parent, folders, names in os.walk(folder, onerror=_raise):
        for name in [*folders, *names]:
            path = Path(parent) / name
            mode = path.lstat().st_mode
            is_ignored = path.relative_to(folder).as_posix() in _IGNORED
            count += stat.S_ISREG(mode) and not is_ignored
            if stat.S_ISLNK(mode):
                if links and path.is_file():
                    count += 1
                else:
                    problems.append(f"{path}: is a link to {path.readlink()}; a signed model holds only files")
            elif stat.S_ISDIR(mode) and is_ignored:
                # The library would ignore everything in it.
                problems.append(f"{path}: is a folder, but this is the name of a file; remove it")
            elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                problems.append(f"{path}: is neither a file nor a folder; remove it")
            if not name.isprintable():
                problems.append(f"{path}: its name has characters that cannot be printed; rename it")
    if not count and not problems:
        problems.append(f"{folder}: holds no file of a model; its files were deleted, or were never copied here")
    if problems:
        raise SignatureError(*problems[:_NAMED], *([f"{len(problems) - _NAMED:,} more"] if problems[_NAMED:] else []))


def _raise(error: OSError) -> None:
    raise error
