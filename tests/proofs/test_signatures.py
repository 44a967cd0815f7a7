"""Signatures: read by the library's own command, and every change of folder, signature or key is refused."""

import base64
import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_signing import _cli

from tuneline.errors import SignatureError
from tuneline.proofs import keys, signatures
from tuneline.proofs.keys import PrivateKey

VECTORS = Path(__file__).parent / "vectors"
VECTOR_KEY = VECTORS / "signing-key.pub"


@pytest.fixture
def signed(model: Path, key: PrivateKey) -> Path:
    """The model's folder, signed with the key."""
    signatures.sign(model, key)
    return model


def problem(folder: Path, public_keys: list[Path] | None = None) -> str:
    """Why the folder is refused."""
    with pytest.raises(SignatureError) as caught:
        signatures.verify(folder, keys.trusted_keys() if public_keys is None else public_keys)
    return str(caught.value)


@pytest.mark.parametrize("release", ["v1.0.1", "v1.1.0"])
def test_the_public_test_vectors(tmp_path: Path, release: str) -> None:
    folder = shutil.copytree(VECTORS / release, tmp_path / release)
    assert signatures.verify(folder, [VECTOR_KEY]) == "signing-key"
    (folder / "signme-1").write_text("signme-2\n")
    assert "signme-1: was changed" in problem(folder, [VECTOR_KEY])


def test_paths_that_a_signature_wants_to_be_ignored_are_not(tmp_path: Path) -> None:
    folder = shutil.copytree(VECTORS / "v1.1.0", tmp_path / "model")
    for name in ("ignore-me", ".git", ".gitattributes"):
        (folder / name).write_text("hidden")
        assert f"{name}: was added" in problem(folder, [VECTOR_KEY])
        (folder / name).unlink()
    assert signatures.verify(folder, [VECTOR_KEY])


def test_the_librarys_own_command_reads_our_signature_and_we_read_its_own(signed: Path, key: PrivateKey) -> None:
    place = ["--signature", str(signed / "model.sig"), str(signed)]
    for command in (["verify", "key", "--public_key", key.public.path], ["sign", "key", "--private_key", key.path]):
        done = CliRunner().invoke(_cli.main, [*map(str, command), *place])
        assert (done.exit_code, "succeeded" in done.output) == (0, True), done.output
    assert signatures.verify(signed, keys.trusted_keys()) == "ada"


def test_a_folder_of_links_is_signed_as_the_files_that_a_copy_holds(model: Path, key: PrivateKey, home: Path) -> None:
    linked = home / "linked"
    linked.mkdir()
    for path in model.rglob("*"):
        if path.is_file():
            (linked / path.name).symlink_to(path)
    signatures.sign(linked, key)
    assert "is a link to" in problem(linked)
    copy = shutil.copytree(linked, home / "copy")
    assert signatures.verify(copy, keys.trusted_keys()) == "ada"
    said = json.loads(base64.b64decode(json.loads((copy / "model.sig").read_text())["dsseEnvelope"]["payload"]))
    assert said["predicate"]["serialization"]["allow_symlinks"] is False
    assert [one["name"] for one in said["predicate"]["resources"]] == [
        "adapter_model.safetensors",
        "config.json",
        "model.safetensors",
    ]


def test_a_signed_folder_is_valid_under_any_name_and_signed_again(signed: Path, key: PrivateKey, home: Path) -> None:
    moved = signed.rename(home / "模型 of mine")
    assert signatures.verify(moved, keys.trusted_keys()) == "ada"
    (home / "link").symlink_to(moved)
    assert signatures.verify(home / "link", keys.trusted_keys()) == "ada"
    signatures.sign(moved, key)
    assert signatures.verify(moved, keys.trusted_keys()) == "ada"
    assert sorted(path.name for path in moved.iterdir()) == ["adapter", "config.json", "model.safetensors", "model.sig"]


def test_an_encrypted_key_signs(model: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.PASSWORD, "correct 马 battery")
    keys.create("eve")
    key = keys.signing_key()
    assert key is not None
    signatures.sign(model, key)
    monkeypatch.delenv(keys.PASSWORD)
    assert signatures.verify(model, keys.trusted_keys()) == "eve"


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _outside(folder: Path) -> None:
    shutil.move(folder / "config.json", folder.parent / "config.json")
    (folder / "config.json").symlink_to("../config.json")


def _signature_behind_a_link(folder: Path) -> None:
    shutil.move(folder / "model.sig", folder.parent / "model.sig")
    (folder / "model.sig").symlink_to("../model.sig")


def _folder_behind_a_link(folder: Path) -> None:
    shutil.move(folder / "adapter", folder.parent / "adapter")
    (folder / "adapter").symlink_to("../adapter")


def _folder_of_the_name_that_is_ignored(folder: Path) -> None:
    (folder / "registered_model_meta").mkdir()
    (folder / "registered_model_meta/code.py").write_text("import os")


def _socket(folder: Path) -> None:
    os.chdir(folder)
    socket.socket(socket.AF_UNIX).bind("s")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: _flip(folder / "model.safetensors"), "model.safetensors: was changed since it was signed"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "model.safetensors: was changed"),
        (lambda folder: (folder / "pytorch_model.bin").write_bytes(b"x"), "pytorch_model.bin: was added"),
        (lambda folder: (folder / ".hidden").write_bytes(b"x"), ".hidden: was added"),
        (lambda folder: (folder / "adapter/model.sig").write_bytes(b"x"), "adapter/model.sig: was added"),
        (lambda folder: (folder / "config.json").unlink(), "config.json: was signed, but is missing"),
        (lambda folder: (folder / "config.json").rename(folder / "Config.json"), "config.json: was signed, but is"),
        (_outside, "config.json: is a link to ../config.json"),
        (_signature_behind_a_link, "model.sig: is a link to ../model.sig"),
        (_folder_behind_a_link, "adapter: is a link to ../adapter"),
        (_folder_of_the_name_that_is_ignored, "registered_model_meta: is a folder, but this is the name of a file"),
        (_socket, "s: is neither a file nor a folder"),
        (lambda folder: os.mkfifo(folder / "p"), "p: is neither a file nor a folder"),
        (lambda folder: (folder / "a\x1b[2J").write_bytes(b""), "its name has characters that cannot be printed"),
        (lambda folder: (folder / "model.sig").unlink(), "is not signed: it has no file model.sig"),
    ],
)
def test_a_changed_folder_is_refused(
    signed: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object], reason: str
) -> None:
    public = keys.trusted_keys()[0].absolute()
    monkeypatch.chdir(signed.parent)
    change(signed)
    assert reason in problem(signed, [public])


def test_the_file_that_mlflow_writes_is_allowed(signed: Path) -> None:
    (signed / "registered_model_meta").write_text("model_name: x\n")
    assert signatures.verify(signed, keys.trusted_keys()) == "ada"


def test_many_differences_are_counted(signed: Path) -> None:
    for number in range(9):
        (signed / f"{number}.bin").write_bytes(b"x")
    assert "4 more: was added after the folder was signed" in problem(signed)


def test_no_folder_an_empty_folder_and_a_folder_without_a_model(home: Path, key: PrivateKey) -> None:
    empty = home / "empty"
    assert "does not exist" in problem(empty)
    empty.mkdir()
    assert "is empty; its files were deleted" in problem(empty)
    with pytest.raises(SignatureError, match="holds no file of a model"):
        signatures.sign(empty, key)
    (empty / "file").write_text("x")
    assert "is not a folder" in problem(empty / "file")
    signatures.sign(empty, key)
    (empty / "file").unlink()
    assert "holds no file of a model" in problem(empty)


def test_a_key_that_is_not_trusted(signed: Path, key: PrivateKey) -> None:
    other = keys.create("bob").public
    assert signatures.verify(signed, keys.trusted_keys()) == "ada"
    said = problem(signed, [other])
    assert key.public.id[:12] in said
    assert "not trusted; trusted: bob" in said
    assert "trusted: none" in problem(signed, [])


def _edit(folder: Path, change: Callable[[dict], object]) -> None:
    value = json.loads((folder / "model.sig").read_text())
    change(value)
    (folder / "model.sig").write_text(json.dumps(value))


def _repay(change: Callable[[dict], object]) -> Callable[[dict], object]:
    """A change of the statement in a bundle, whose signature stays."""

    def apply(bundle: dict) -> None:
        said = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        change(said)
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(said).encode()).decode()

    return apply


FORGED = "was not made with the key ada, although it says so, or was changed"
DAMAGED = "is damaged or cut off"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_repay(lambda said: said["predicate"]["resources"].pop()), FORGED),
        (_repay(lambda said: said["predicate"]["resources"][0].update(name="../../etc/passwd")), FORGED),
        (_repay(lambda said: said["predicate"]["serialization"].update(ignore_paths=["."])), FORGED),
        (_repay(lambda said: said["predicate"]["serialization"].update(hash_type="md5")), DAMAGED),
        (_repay(lambda said: said["predicate"]["serialization"].update(method="shards")), DAMAGED),
        (_repay(lambda said: said["predicate"].pop("resources")), DAMAGED),
        (_repay(lambda said: said.update(predicateType="https://model_signing/Digests/v0.1")), "sign the model again"),
        (lambda bundle: bundle["verificationMaterial"]["publicKey"].pop("hint"), ""),
        (lambda bundle: bundle["verificationMaterial"].update(publicKey={"hint": 5}), DAMAGED),
        (lambda bundle: bundle["verificationMaterial"].pop("publicKey"), "in another way of the format"),
        (lambda bundle: bundle["dsseEnvelope"]["signatures"].clear(), DAMAGED),
        (lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig=""), FORGED),
        (lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig="!"), FORGED),
        (lambda bundle: bundle["dsseEnvelope"].update(payload="e30="), DAMAGED),
        (lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"), DAMAGED),
        (lambda bundle: bundle.update(mediaType="text/plain"), DAMAGED),
        (lambda bundle: bundle.clear(), DAMAGED),
    ],
)
def test_a_changed_signature_is_refused(signed: Path, change: Callable[[dict], object], reason: str) -> None:
    _edit(signed, change)
    if reason:
        assert reason in problem(signed)
    else:
        # Without the name of the key, each trusted key is tried.
        assert signatures.verify(signed, keys.trusted_keys()) == "ada"
        assert "a key that it does not name" in problem(signed, [keys.create("bob").public])


def test_a_signature_that_another_key_made_in_its_name(signed: Path, key: PrivateKey) -> None:
    named = json.loads((signed / "model.sig").read_text())["verificationMaterial"]
    keys.create("mallory")
    mallory = keys.private_of(Path("mlflow/keys/mallory.pub"))
    assert mallory is not None
    _flip(signed / "model.safetensors")
    signatures.sign(signed, mallory)
    _edit(signed, lambda bundle: bundle.update(verificationMaterial=named))
    assert FORGED in problem(signed)


@pytest.mark.parametrize("content", [b"", b"\n", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 9_999])
def test_a_signature_that_is_none(signed: Path, content: bytes) -> None:
    (signed / "model.sig").write_bytes(content)
    assert DAMAGED in problem(signed)


def test_a_huge_signature_and_one_that_is_a_folder(signed: Path) -> None:
    with (signed / "model.sig").open("ab") as file:
        file.truncate((1 << 24) + 1)
    assert "so it is not a signature" in problem(signed)
    (signed / "model.sig").unlink()
    (signed / "model.sig").mkdir()
    assert "model.sig: is a folder" in problem(signed)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_of_a_signature_is_accepted_or_ends_in_another_error(signed: Path, data: st.DataObject) -> None:
    whole = (signed / "model.sig").read_bytes()
    start = data.draw(st.integers(0, len(whole) - 1))
    length = data.draw(st.sampled_from([1, 1, 1, 5, len(whole)]))
    damaged = whole[:start] + data.draw(st.binary(max_size=3)) + whole[start + length :]
    try:
        (signed / "model.sig").write_bytes(damaged)
        try:
            signatures.verify(signed, keys.trusted_keys())
        except SignatureError:
            return
        # Bytes that mean the same, such as another order of blanks.
        assert json.loads(damaged)["dsseEnvelope"]["payload"] == json.loads(whole)["dsseEnvelope"]["payload"]
    finally:
        (signed / "model.sig").write_bytes(whole)
