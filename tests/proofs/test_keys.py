"""Keys: where they are made, which files are refused, and that a private key stays private."""

import os
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tuneline.errors import SignatureError
from tuneline.proofs import keys
from tuneline.proofs.keys import PrivateKey

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


def test_a_new_key_is_private_outside_the_project_and_public_inside(home: Path) -> None:
    made = keys.create("ada")
    assert (made.private, made.public) == (home / "config/tuneline/keys/ada.pem", Path("mlflow/keys/ada.pub"))
    assert [oct(path.stat().st_mode & 0o777) for path in (made.private, made.private.parent)] == ["0o600", "0o700"]
    assert "PRIVATE" not in made.public.read_text()
    assert [path.name for path in made.private.parent.iterdir()] == ["ada.pem"]


def test_a_key_is_never_overwritten_and_a_lost_public_part_comes_back(home: Path) -> None:
    made = keys.create("ada")
    private, public = made.private.read_bytes(), made.public.read_bytes()
    made.public.unlink()
    assert not keys.create("ada").is_new
    assert (made.private.read_bytes(), made.public.read_bytes()) == (private, public)


def test_a_name_that_another_person_uses_is_refused(home: Path) -> None:
    made = keys.create("ada")
    made.private.unlink()
    with pytest.raises(SignatureError, match="does not have its private part"):
        keys.create("ada")
    assert not made.private.exists()
    keys.create("bob").private.replace(made.private)
    with pytest.raises(SignatureError, match="another key than"):
        keys.create("ada")


def test_two_calls_at_once_make_one_key(home: Path) -> None:
    problems: list[str] = []

    def create() -> None:
        try:
            keys.create("ada")
        except SignatureError as error:
            problems.extend(error.problems)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("run the same command again" in problem for problem in problems)
    keys.create("ada")
    assert keys.signing_key() is not None


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "-a", "a b", "a\n", "é", "a" * 65, ".pem"])
def test_a_name_that_is_not_a_file_name_is_refused(home: Path, name: str) -> None:
    with pytest.raises(SignatureError, match="is not the name of a key"):
        keys.create(name)


@pytest.mark.parametrize("place", ["key.pem", "deep/in/key.pem", "../link/key.pem"])
def test_a_private_key_inside_the_repository_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    (home / "link").symlink_to(Path.cwd())
    monkeypatch.setenv(keys.LOCATION, place)
    with pytest.raises(SignatureError, match="is inside the repository"):
        keys.create("ada")
    assert not list(Path.cwd().rglob("*.pem"))


def test_a_subfolder_of_the_repository_is_not_outside_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", ".."], check=True)
    with pytest.raises(SignatureError, match="is inside the repository"):
        keys.create("ada")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_private_key_that_others_can_read_is_refused(key: PrivateKey, mode: int) -> None:
    key.path.chmod(mode)
    with pytest.raises(SignatureError, match=f"mode {mode:04o}.*chmod 600 {key.path}"):
        keys.signing_key()


def _rewrite(path: Path, private: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
    path.write_bytes(private.private_bytes(PEM, PKCS8, serialization.NoEncryption()))


def test_what_is_not_an_elliptic_curve_key_is_refused(key: PrivateKey) -> None:
    _rewrite(key.path, ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(SignatureError, match="another kind"):
        keys.signing_key()
    _rewrite(key.path, ec.generate_private_key(ec.SECP256K1()))
    with pytest.raises(SignatureError, match="another kind"):
        keys.signing_key()
    for content in (b"", b"key", os.urandom(200), b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        key.path.write_bytes(content)
        with pytest.raises(SignatureError, match="is not a private key in PEM"):
            keys.signing_key()
    key.path.write_bytes(b"x" * 70_000)
    with pytest.raises(SignatureError, match="larger than"):
        keys.signing_key()
    key.path.unlink()
    key.path.mkdir(mode=0o700)
    with pytest.raises(SignatureError, match="is not a file"):
        keys.signing_key()


def test_a_public_key_that_is_none_is_named(key: PrivateKey) -> None:
    public = key.public.path
    private = key.path.read_bytes()
    for content, problem in ((private, "holds a private key"), (b"", "is not a public key"), (b"\xff", "is not a")):
        public.write_bytes(content)
        with pytest.raises(SignatureError, match=problem) as caught:
            keys.read_publics([public])
        assert private.decode().splitlines()[1] not in str(caught.value)


def test_an_encrypted_key_asks_for_its_password_and_never_shows_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.PASSWORD, "correct horse")
    made = keys.create("ada")
    assert b"ENCRYPTED" in made.private.read_bytes()
    found = keys.signing_key()
    assert found is not None
    assert "horse" not in repr(found)
    monkeypatch.setenv(keys.PASSWORD, "wrong horse")
    with pytest.raises(SignatureError, match="does not open") as caught:
        keys.signing_key()
    assert "wrong" not in str(caught.value)
    monkeypatch.delenv(keys.PASSWORD)
    with pytest.raises(SignatureError, match=f"is encrypted; set {keys.PASSWORD}"):
        keys.signing_key()


def test_another_place_of_the_private_key(key: PrivateKey, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = home / "usb" / "mine.pem"
    elsewhere.parent.mkdir()
    key.path.replace(elsewhere)
    assert keys.signing_key() is None
    monkeypatch.setenv(keys.LOCATION, str(elsewhere))
    found = keys.signing_key()
    assert found is not None
    assert (found.path, found.name) == (elsewhere, "ada")
    key.public.path.unlink()
    with pytest.raises(SignatureError, match=r"is not in mlflow/keys; add it with: tuneline keys create"):
        keys.signing_key()


def test_a_colleagues_key_of_the_same_name_does_not_sign(key: PrivateKey) -> None:
    _rewrite(key.path, ec.generate_private_key(ec.SECP256R1()))
    assert keys.signing_key() is None


def test_without_keys_nothing_signs(home: Path) -> None:
    assert keys.trusted_keys() == []
    assert keys.signing_key() is None
