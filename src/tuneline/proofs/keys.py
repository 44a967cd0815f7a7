"""The keys that sign: a private key stays on its machine, and the project's repository holds the public keys.

A key is an elliptic-curve key in a PEM file. Only this file imports cryptography.
"""

import getpass
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tuneline import git
from tuneline.core import files
from tuneline.errors import SignatureError

TRUSTED = Path("mlflow/keys")
"""The folder of the public keys, each NAME.pub, whose signatures the project trusts."""
LOCATION = "TUNELINE_SIGNING_KEY"
"""The environment variable with the path of a private key in another place than the usual one."""
PASSWORD = "TUNELINE_SIGNING_KEY_PASSWORD"
"""The environment variable with the password of an encrypted private key."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LARGEST = 1 << 16
"""Bytes of a PEM file; those of a key have some hundreds."""
# The curves of the OpenSSF model-signing format, with the hash that belongs to each.
_HASHES = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}


@dataclass(frozen=True)
class PublicKey:
    """A public key in a file."""

    path: Path
    id: str
    """The sha256 of its PEM text, by which signatures name their key."""
    _key: ec.EllipticCurvePublicKey

    @property
    def name(self) -> str:
        """The name of the file without its suffix."""
        return self.path.stem

    def has_signed(self, signature: bytes, data: bytes) -> bool:
        """Whether its private key made this signature of `data`."""
        try:
            self._key.verify(signature, data, ec.ECDSA(_HASHES[self._key.curve.name]))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, repr=False)
class PrivateKey:
    """A private key of this machine."""

    path: Path
    public: PublicKey
    """Its public part, as the project has it."""
    _key: ec.EllipticCurvePrivateKey

    @property
    def name(self) -> str:
        """The name of its public part."""
        return self.public.name

    @property
    def password(self) -> bytes | None:
        """The password of its file, from the environment; None where the file is not encrypted."""
        return _password() if _is_encrypted(self.path.read_bytes()) else None

    def sign(self, data: bytes) -> bytes:
        """The ECDSA signature of `data`, in DER."""
        return self._key.sign(data, ec.ECDSA(_HASHES[self._key.curve.name]))

    def __repr__(self) -> str:
        return f"PrivateKey({self.path})"


@dataclass(frozen=True)
class Created:
    """What `create` has made or found."""

    name: str
    private: Path
    public: Path
    is_new: bool
    """Whether the private key was made now."""


def create(name: str | None = None) -> Created:
    """Make a private key on this machine, and its public part in the project; never overwrites a key.

    A private key that exists stays, and the project gets its public part: so a killed call is finished by the next, and
    several projects can share a key.

    Args:
        name: of the key. None: the login name.

    Raises:
        SignatureError: the name is not usable, the place is inside the repository, or another key has the name.
        GitError: git cannot say where the repository is.
    """
    name = check_name(_login_name() if name is None else name)
    private, public = private_path(name), TRUSTED / f"{name}.pub"
    _refuse_repository(private)
    is_new = not os.path.lexists(private)
    if is_new:
        if os.path.lexists(public):
            raise SignatureError(
                f"{public}: exists, but this machine does not have its private part ({private}); choose another name "
                "with --name, or copy the private key there"
            )
        _write_private(private, _new_pem())
    own = _public_pem(_load_private(private).public_key())
    if not os.path.lexists(public):
        files.write_text(public, own.decode("ascii"))
    elif read_public(public).id != _id(own):
        raise SignatureError(
            f"{public}: is the public part of another key than {private}; choose another name with --name"
        )
    return Created(name, private, public, is_new)


def check_name(name: str) -> str:
    """The name of a key, if it is usable as the name of a file.

    Raises:
        SignatureError: it is not; says what a name may hold.
    """
    if not _NAME.fullmatch(name):
        raise SignatureError(
            f"{name!r}: is not the name of a key: a name has up to 64 letters a to z, digits, dots, hyphens and "
            "underscores, and starts with a letter or a digit; give one with --name"
        )
    return name


def private_path(name: str) -> Path:
    """The file of the private key of this name: TUNELINE_SIGNING_KEY where it is set, else in the home folder."""
    if given := os.environ.get(LOCATION):
        return Path(given).expanduser().absolute()
    return private_folder() / f"{name}.pem"


def private_folder() -> Path:
    """The folder of the private keys of this user.

    Raises:
        SignatureError: this user has no home folder.
    """
    config = os.environ.get("XDG_CONFIG_HOME", "")
    try:
        # The XDG specification ignores relative paths.
        parent = Path(config) if Path(config).is_absolute() else Path.home() / ".config"
    except RuntimeError:
        raise SignatureError(
            f"this user has no home folder, where a private key could be; set {LOCATION} to the path of a file"
        ) from None
    return parent / "tuneline" / "keys"


def trusted_keys(folder: Path = TRUSTED) -> list[Path]:
    """The files of the public keys that a project trusts, by name; empty where it has none.

    Args:
        folder: of the files.
    """
    return sorted(folder.glob("*.pub"))


def signing_key() -> PrivateKey | None:
    """The private key of this machine whose public part is in the project's mlflow/keys, or None.

    Raises:
        SignatureError: the key is there, but cannot be used; or TUNELINE_SIGNING_KEY names a key that is not trusted.
    """
    given = os.environ.get(LOCATION)
    for public in trusted_keys():
        if (given or os.path.lexists(private_path(public.stem))) and (found := private_of(public)):
            return found
    if given:
        raise SignatureError(
            f"{LOCATION}: the public part of {given} is not in {TRUSTED}; add it with: tuneline keys create"
        )
    return None


def private_of(public: Path) -> PrivateKey | None:
    """The private part of a public key, whose file exists; None where that file holds another key.

    Raises:
        SignatureError: the private key is there, but cannot be used; with the remedy.
    """
    path = private_path(public.stem)
    loaded, known = _load_private(path), read_public(public)
    return PrivateKey(path, known, loaded) if known.id == _id(_public_pem(loaded.public_key())) else None


def read_public(path: Path) -> PublicKey:
    """The public key in a PEM file.

    Raises:
        SignatureError: the file cannot be read, or does not hold such a key; with the remedy.
    """
    content = _read(path, "public key")
    if b"PRIVATE KEY" in content:
        raise SignatureError(f"{path}: holds a private key; a public key is wanted, and a private key is never shared")
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise SignatureError(f"{path}: is not a public key in PEM; {_REMEDY}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise SignatureError(f"{path}: is a public key of another kind than {_KINDS}; {_REMEDY}")
    return PublicKey(path, _id(_public_pem(key)), key)


def read_publics(paths: Sequence[Path]) -> list[PublicKey]:
    """The public keys in some files.

    Raises:
        SignatureError: a file does not hold such a key; all of them are named.
    """
    found, problems = [], []
    for path in paths:
        try:
            found.append(read_public(path))
        except SignatureError as error:
            problems += error.problems
    if problems:
        raise SignatureError(*problems)
    return found


_KINDS = "an elliptic-curve key on P-256, P-384 or P-521"
_REMEDY = "make a pair of keys with: tuneline keys create"


def _load_private(path: Path) -> ec.EllipticCurvePrivateKey:
    """The private key in a file that only its owner can read.

    Raises:
        SignatureError: the file cannot be used; with the remedy.
    """
    _refuse_repository(path)
    content = _read(path, "private key")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise SignatureError(
            f"{path}: has the mode {mode:04o}, so other users can read or change this private key; make it yours "
            f"alone with: chmod 600 {path}"
        )
    password = _password() if _is_encrypted(content) else None
    if _is_encrypted(content) and password is None:
        raise SignatureError(f"{path}: is encrypted; set {PASSWORD} to its password")
    try:
        key = serialization.load_pem_private_key(content, password)
    except (ValueError, UnsupportedAlgorithm):
        if password is not None:
            raise SignatureError(f"{path}: the password in {PASSWORD} does not open this private key") from None
        raise SignatureError(f"{path}: is not a private key in PEM; restore it from a backup, or {_REMEDY}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _HASHES:
        raise SignatureError(f"{path}: is a private key of another kind than {_KINDS}; {_REMEDY}")
    return key


def _is_encrypted(content: bytes) -> bool:
    return b"ENCRYPTED" in content


def _password() -> bytes | None:
    given = os.environ.get(PASSWORD)
    return given.encode() if given else None


def _read(path: Path, what: str) -> bytes:
    try:
        if not path.is_file():
            fact = "is not a file" if path.exists() else "does not exist"
            raise SignatureError(f"{path}: {fact}; name the file of a {what}")
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise SignatureError(f"{path}: cannot be read: {error.strerror}; name the file of a {what}") from None
    if len(content) > _LARGEST:
        raise SignatureError(f"{path}: is larger than {_LARGEST:,} bytes, so it is not a {what}")
    return content


def _refuse_repository(path: Path) -> None:
    """Raise where a private key would be, or is, inside the project or its repository."""
    place = path.resolve()
    for folder in _repository():
        if place.is_relative_to(folder):
            raise SignatureError(
                f"{path}: is inside the repository {folder}, where a private key could be committed or copied; "
                f"keep it outside, for example in ~/.config/tuneline/keys, and set {LOCATION} to its path"
            )


def _repository() -> list[Path]:
    found = [Path.cwd().resolve()]
    top = git.ask("rev-parse", "--show-toplevel")
    return [Path(top).resolve(), *found] if top else found


def _new_pem() -> bytes:
    password = _password()
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
    )


def _write_private(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read, whole or not at all; an existing file is never replaced."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            # Unlike a rename, a link fails where another process was faster.
            os.link(temporary, path)
        except FileExistsError:
            raise SignatureError(
                f"{path}: another process has just made this key; run the same command again"
            ) from None
    finally:
        temporary.unlink()


def _public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _id(pem: bytes) -> str:
    return hashlib.sha256(pem).hexdigest()


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise SignatureError("this user has no login name; give the key a name with --name") from None
