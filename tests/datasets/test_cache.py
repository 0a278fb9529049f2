"""A pack that is named by a URI is fetched once per node, whole and verified, and is the pack that is there."""

import gc
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets import Pack, PackError, write_pack
from datasets.cache import clear, entries
from datasets.copying import copy_pack, destination
from tests.s3 import S3, free_port, s3_server

from .conftest import NINE, faces

ROOT = Path(__file__).resolve().parents[2]
SECRET = "very"  # of tests.s3's URIs


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TITRATE_PACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """place(name): a URI of that name, on a server or on this disk."""
    if request.param == "file":
        return lambda name: f"file://{tmp_path}/far/{name}"
    server: S3 = request.getfixturevalue("s3")
    return lambda name: server.uri(f"bucket/{tmp_path.name}/{name}")


def uri_of(pack: Pack) -> str:
    return f"file://{pack.folder}"


def contents(cache: Path) -> set[str]:
    """What the cache holds, locks aside."""
    return {path.name for path in cache.glob("*") if path.suffix != ".lock"}


def same(one: Pack, other: Pack) -> bool:
    rows = [(one.sample(i), other.sample(i)) for i in range(len(one))]
    return len(one) == len(other) and all(np.array_equal(a[name], b[name]) for a, b in rows for name in one.columns)


def child(code: str, *arguments: Any, cache: Path) -> subprocess.Popen:
    """Python code in a process of its own, with sys.argv[1:]."""
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys, os, time\nfrom datasets import Pack, PackError\n{code}",
            *map(str, arguments),
        ],
        cwd=ROOT,
        env=os.environ | {"TITRATE_PACK_CACHE": str(cache)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_uri_gives_the_pack_that_was_sent_there(
    face_pack: Callable[..., Pack], cache: Path, place: Callable[[str], str]
) -> None:
    pack = face_pack("p", 7)
    copy_pack(pack, place("p"))
    far = Pack.open(place("p"))
    assert (far.digest, far.manifest, far.name) == (pack.digest, pack.manifest, "p")
    assert same(far, pack)
    assert Path(far.folder) == cache / pack.digest
    assert contents(cache) == {pack.digest}
    assert SECRET not in f"{far.path}{far!r}{(Path(far.folder) / 'uri').read_text()}"


def test_processes_that_ask_at_once_fetch_once_and_share_the_files(
    face_pack: Callable[..., Pack], cache: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.writer.SHARD_BYTES", 1)
    monkeypatch.setattr("datasets.writer.BATCH_BYTES", 4000)
    pack = face_pack("p", 12)
    assert len(pack.manifest.files) == 4
    uri = s3.uri("bucket/at-once")
    copy_pack(pack, uri)
    code = """
sys.stdin.readline()
pack = Pack.open(sys.argv[1])
print(pack.digest, *(os.stat(os.path.join(pack.folder, file.name)).st_ino for file in pack.manifest.files))
"""
    processes = [child(code, uri, cache=cache) for _ in range(6)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = {process.communicate(timeout=120) for process in processes}
    assert len(told) == 1  # the same digest and the same files on disk, and nothing on stderr
    assert told.pop()[0].split()[0] == pack.digest
    assert [s3.gets(f"bucket/at-once/{file.name}") for file in pack.manifest.files] == [1, 1, 1, 1]
    before = s3.gets("bucket/at-once/")
    assert same(Pack.open(uri), pack)
    assert s3.gets("bucket/at-once/") == before + 1  # the manifest, once
    assert same(Pack.open(uri, pack.digest), pack)
    assert s3.gets("bucket/at-once/") == before + 1


def until(there: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Reads 50 times as slowly as the test is quick to see that half of a file is there.
SLOWLY = """
import datasets.remote
datasets.remote.CHUNK_BYTES = 10_000
read = datasets.remote.RemotePack._read
datasets.remote.RemotePack._read = lambda self, source: (time.sleep(0.2), read(self, source))[1]
"""


def half_there(cache: Path, pack: Pack) -> bool:
    (file,) = pack.manifest.files
    found = cache.glob(f".{pack.digest}.writing-*/{file.name}")
    return any(file.bytes / 4 < path.stat().st_size < file.bytes for path in found)


def test_a_killed_fetch_leaves_nothing_that_is_used_and_the_next_goes_on(
    face_pack: Callable[..., Pack], cache: Path, place: Callable[[str], str]
) -> None:
    pack = face_pack("p", 400)
    copy_pack(pack, place("p"))
    first = child(f"{SLOWLY}\nPack.open(sys.argv[1])", place("p"), cache=cache)
    until(lambda: half_there(cache, pack))
    second = child("print(Pack.open(sys.argv[1]).digest)", place("p"), cache=cache)
    time.sleep(2)
    assert second.poll() is None  # waits for the first
    assert first.poll() is None
    assert not (cache / pack.digest).exists()
    first.kill()
    first.communicate(timeout=30)
    output, error = second.communicate(timeout=60)
    assert (output.strip(), error) == (pack.digest, "")
    assert contents(cache) == {pack.digest}
    assert same(Pack.open(place("p")), pack)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_fetch_leaves_nothing(face_pack: Callable[..., Pack], cache: Path, number: int) -> None:
    pack = face_pack("p", 400)
    code = f"{SLOWLY}\nfrom datasets.__main__ import main\nsys.argv = ['datasets', 'verify', sys.argv[1]]\nmain()"
    process = child(code, uri_of(pack), cache=cache)
    until(lambda: half_there(cache, pack))
    process.send_signal(number)
    assert process.communicate(timeout=5) == ("", "")  # not only when the whole file is there
    assert process.returncode == 128 + number
    assert contents(cache) == set()


def test_a_damaged_fetch_is_not_kept_and_names_the_uri(face_pack: Callable[..., Pack], cache: Path) -> None:
    pack = face_pack("p", 5)
    path = Path(pack.folder, pack.manifest.files[0].name)
    content = path.read_bytes()
    place = content.index(pack.sample(3)["image"].tobytes())
    flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    truncated = f"must have {len(content)} bytes, but has {len(content) - 8}; copy or write the pack again"
    for damaged, says in (
        (flipped, "image of sample 3 is not what was written); copy or write it again"),
        (content[:-8], truncated),
    ):
        path.write_bytes(damaged)
        for _ in range(2):  # nor is it kept for the second time
            with pytest.raises(PackError) as caught:
                Pack.open(uri_of(pack))
            assert says in str(caught.value)
            assert str(caught.value).startswith(uri_of(pack))
            assert "\n" not in str(caught.value)
            assert contents(cache) == set()
    path.write_bytes(content)
    Pack.open(uri_of(pack)).verify()


def test_a_replaced_pack_is_another_entry_and_refused_where_the_old_one_is_meant(
    tmp_path: Path, cache: Path, place: Callable[[str], str]
) -> None:
    old, new = (write_pack(tmp_path / f"{seed}", faces(4, seed=seed), source={}) for seed in (1, 2))
    copy_pack(old, place("p"))
    assert same(Pack.open(place("p")), old)
    data = pickle.dumps(Pack.open(place("p")))
    copy_pack(new, place("p"), overwrite=True)
    assert same(Pack.open(place("p")), new)
    assert contents(cache) == {old.digest, new.digest}
    assert same(Pack.open(place("p"), old.digest), old)  # what is here is still what was meant
    assert same(pickle.loads(data), old)
    assert clear() == (2, 0)
    for again in (lambda: Pack.open(place("p"), old.digest), lambda: pickle.loads(data)):
        with pytest.raises(PackError, match=f"digest must be {old.digest[:12]}, but is {new.digest[:12]}"):
            again()
    with pytest.raises(PackError, match=f"digest must be {old.digest[:12]}, but is {new.digest[:12]}"):
        Pack.open(tmp_path / "2", old.digest)  # a plain path too


def test_with_its_digest_a_pack_opens_while_the_store_is_away(
    face_pack: Callable[..., Pack], cache: Path, s3: S3
) -> None:
    pack = face_pack("p", 4)
    copy_pack(pack, s3.uri("bucket/away"))
    Pack.open(s3.uri("bucket/away"))
    away = S3(free_port(), s3.log).uri("bucket/away")
    assert same(Pack.open(away, pack.digest), pack)
    assert same(pickle.loads(pickle.dumps(Pack.open(away, pack.digest))), pack)
    with pytest.raises(PackError, match=r"must be reachable, but: .*[Cc]ould not connect to server; check"):
        Pack.open(away)


def test_what_cannot_be_opened_is_one_line_without_secrets(
    face_pack: Callable[..., Pack], tmp_path: Path, cache: Path, s3: S3
) -> None:
    uri = s3.uri("bucket/nothing")
    for given, says in (
        (uri, "no pack here (no manifest.json)"),
        (uri.replace("bucket/", "no-bucket/"), "the bucket must exist, but there is no 'no-bucket'"),
        (uri.replace("s3:", "s4:"), "must be a URI that pyarrow opens (s3://, gs://, abfs://, file://), but:"),
        (f"{uri}&secret_key=very", "Unexpected query parameter in S3 URI: 'secret_key'"),
        (uri.replace("%2F", "/"), "Cannot parse URI"),
        (uri.replace("scheme=http", "scheme=https"), "must be reachable, but:"),
        (f"file://{tmp_path}/none", "no pack here"),
        ("file://host/x", "Unsupported hostname"),
    ):
        with pytest.raises(PackError) as caught:
            Pack.open(given)
        assert says in str(caught.value)
        assert SECRET not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600
    assert contents(cache) == set()


def test_a_cache_that_cannot_hold_a_pack_is_one_line_and_nothing_is_left(
    face_pack: Callable[..., Pack], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = face_pack("p", 40)
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    Pack.open(sys.argv[1])
except PackError as error:
    print(error)
"""
    output, error = child(code, uri_of(pack), pack.manifest.bytes // 2, cache=cache).communicate(timeout=60)
    assert output.startswith(f"{uri_of(pack)}: must be kept in the pack cache {cache}, but: File too large; free space")
    assert output.endswith("or set TITRATE_PACK_CACHE to another folder\n")
    assert output.count("\n") == 1
    assert error == ""
    assert contents(cache) == set()

    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: usage._replace(free=10))
        with pytest.raises(PackError, match=r"bytes must fit into the pack cache .* but 10 are free; free space there"):
            Pack.open(uri_of(pack))
    assert contents(cache) == set()

    (tmp_path / "file").touch()
    monkeypatch.setenv("TITRATE_PACK_CACHE", str(tmp_path / "file"))
    with pytest.raises(PackError, match=f"must be kept in the pack cache {tmp_path}/file, but: File exists"):
        Pack.open(uri_of(pack))


def test_an_entry_that_has_lost_a_file_is_fetched_again(
    face_pack: Callable[..., Pack], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pack = face_pack("p", 3)
    Pack.open(uri_of(pack))
    (cache / pack.digest / pack.manifest.files[0].name).unlink()
    assert same(Pack.open(uri_of(pack)), pack)
    assert "no longer whole" in caplog.text
    assert contents(cache) == {pack.digest}


def test_a_byte_that_flips_in_the_cache_is_found_and_told_what_to_do(
    face_pack: Callable[..., Pack], cache: Path, command_line: Callable[..., Any]
) -> None:
    pack = face_pack("p", 3)
    assert command_line("verify", uri_of(pack))[0] == 0
    path = cache / pack.digest / pack.manifest.files[0].name
    content = bytearray(path.read_bytes())
    content[content.index(pack.sample(1)["image"].tobytes())] ^= 1
    path.write_bytes(content)
    code, _, error = command_line("verify", uri_of(pack))
    assert code == 2
    assert f"clear its copy in {cache / pack.digest} (`python -m datasets cache clear`)" in error
    gc.collect()  # the traceback holds the pack
    assert command_line("cache", "clear")[1] == "packs removed: 1; in use, and kept: 0\n"
    assert command_line("verify", uri_of(pack))[0] == 0


def test_an_entry_of_an_older_version_hides_no_other_and_is_fetched_again(
    face_pack: Callable[..., Pack], cache: Path, command_line: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    packs = [face_pack(f"{seed}", 3, seed=seed) for seed in range(2)]
    for pack in packs:
        Pack.open(uri_of(pack))
    manifest = cache / packs[0].digest / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 1'))
    assert "packs: 1, " in command_line("cache", "ls")[1]
    assert f"{manifest.parent} is not whole, or of another version" in caplog.text
    Pack.open(uri_of(packs[0]), packs[0].digest)
    assert "packs: 2, " in command_line("cache", "ls")[1]


def test_clear_takes_what_is_old_and_never_what_a_process_has_open(
    face_pack: Callable[..., Pack], cache: Path, command_line: Callable[..., Any]
) -> None:
    packs = [face_pack(f"{seed}", 3, seed=seed) for seed in range(3)]
    held = Pack.open(uri_of(packs[0]))  # nothing of it is mapped yet
    other = child(
        "pack = Pack.open(sys.argv[1])\nprint(1, flush=True)\nsys.stdin.read()", uri_of(packs[1]), cache=cache
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "1\n"
    Pack.open(uri_of(packs[2]))
    old = time.time() - 8 * 86400
    os.utime(cache / packs[2].digest, (old, old))
    assert [(entry.digest, entry.open) for entry in entries()][2:] == [(packs[2].digest, False)]
    listed = command_line("cache", "ls")[1]
    assert listed.count("open now") == 2
    assert listed.endswith(f"{cache}: packs: 3, {sum(pack.manifest.bytes for pack in packs) / 1e6:,.1f} MB\n")

    assert command_line("cache", "clear", "--older-than", 9)[1] == "packs removed: 0; in use, and kept: 0\n"
    assert command_line("cache", "clear", "--older-than", 7)[1] == "packs removed: 1; in use, and kept: 0\n"
    assert command_line("cache", "clear")[1] == "packs removed: 0; in use, and kept: 2\n"
    assert same(held, packs[0])
    other.communicate(timeout=30)
    del held
    assert clear() == (2, 0)
    assert contents(cache) == set()
    assert command_line("cache", "ls")[:2] == (0, f"{cache}: packs: 0, 0.0 MB\n")


def test_opening_makes_an_entry_young(face_pack: Callable[..., Pack], cache: Path) -> None:
    pack = face_pack("p", 3)
    Pack.open(uri_of(pack))
    os.utime(cache / pack.digest, (1, 1))
    Pack.open(uri_of(pack))
    assert clear(older_than_days=1) == (0, 0)


def test_without_the_variable_the_cache_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from datasets.cache import cache_folder

    monkeypatch.delenv("TITRATE_PACK_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache/titrate/packs"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the specification
    assert cache_folder() == tmp_path / ".cache/titrate/packs"
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert cache_folder() == Path("/var/cache/titrate/packs")
    monkeypatch.setenv("TITRATE_PACK_CACHE", "~/packs")
    assert cache_folder() == tmp_path / "packs"


def test_a_pack_is_written_straight_to_a_uri(
    tmp_path: Path, cache: Path, place: Callable[[str], str], command_line: Callable[..., Any]
) -> None:
    from .test_celebamask_hq import label_map, write_map

    for name in "abc":
        write_map(tmp_path / "source", name, label_map())
    pack = ("pack", "celebamask_hq", tmp_path / "source")
    code, output, error = command_line(*pack, place("q"), "--size", 32)
    assert (code, error) == (0, "")
    assert SECRET not in output
    assert command_line(*pack, tmp_path / "q", "--size", 32)[0] == 0
    far, near = Pack.open(place("q")), Pack.open(tmp_path / "q")
    assert far.manifest == near.manifest
    assert same(far, near)
    assert list((cache / "outgoing").glob("*/*")) == []

    code, _, error = command_line(*pack, place("q"), "--size", 16)
    assert code == 2
    assert "exists; choose another path or pass overwrite (--overwrite)" in error
    assert SECRET not in error
    assert command_line(*pack, place("q"), "--size", 16, "--overwrite")[0] == 0
    assert Pack.open(place("q")).digest != near.digest
    assert command_line("show", place("q"), "--out", tmp_path / "sheet.png")[0] == 0
    assert command_line("copy", place("q"), tmp_path / "back")[0] == 0
    assert Pack.open(tmp_path / "back").manifest == Pack.open(place("q")).manifest


def test_overwriting_removes_the_files_of_the_old_pack(tmp_path: Path, cache: Path) -> None:
    far = tmp_path / "far"
    for seed in (1, 2):
        copy_pack(
            write_pack(tmp_path / f"{seed}", faces(4, seed=seed), source={}), f"file://{far}", overwrite=seed == 2
        )
    assert sorted(os.listdir(far)) == sorted(os.listdir(tmp_path / "2"))
    assert (far / "manifest.json").read_bytes() == (tmp_path / "2" / "manifest.json").read_bytes()


def test_a_damaged_pack_at_a_uri_is_repaired_by_sending_it_again(
    face_pack: Callable[..., Pack], tmp_path: Path, cache: Path
) -> None:
    pack, uri = face_pack("p", 4), f"file://{tmp_path}/far"
    copy_pack(pack, uri)
    path = tmp_path / "far" / pack.manifest.files[0].name
    content = path.read_bytes()
    place = content.index(pack.sample(1)["image"].tobytes())
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(PackError, match=r"is not what was written.*copy or write it again"):
        Pack.open(uri)
    copy_pack(pack, uri, overwrite=True)
    assert path.read_bytes() == content
    assert same(Pack.open(uri), pack)


def test_an_error_after_the_manifest_arrived_leaves_the_pack_whole(
    face_pack: Callable[..., Pack], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets.remote import RemotePack

    pack, uri, write = face_pack("p", 3), f"file://{tmp_path}/far", RemotePack._write_manifest

    def late(self: RemotePack, text: bytes) -> None:
        write(self, text)
        raise KeyboardInterrupt

    monkeypatch.setattr(RemotePack, "_write_manifest", late)
    with pytest.raises(KeyboardInterrupt):
        copy_pack(pack, uri)
    Pack.open(uri).verify()


@pytest.mark.parametrize("name", ["precious.txt", "train.arrow"])
def test_something_else_at_a_uri_is_never_replaced(
    face_pack: Callable[..., Pack], tmp_path: Path, cache: Path, name: str
) -> None:
    pack = face_pack("p", 2)
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / name).touch()
    for overwrite in (False, True):
        with pytest.raises(PackError, match="exists and is not a pack; choose another path"):
            copy_pack(pack, f"file://{tmp_path}/far", overwrite=overwrite)
    assert os.listdir(tmp_path / "far") == [name]


def test_a_pack_that_cannot_be_sent_leaves_nothing_there_and_stays_here(
    tmp_path: Path, cache: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets.remote import RemotePack

    def away(self: RemotePack, text: bytes) -> None:
        raise OSError("AWS Error NETWORK_CONNECTION during PutObject operation")

    uri = s3.uri("bucket/unsent")
    with monkeypatch.context() as patch:
        patch.setattr(RemotePack, "_write_manifest", away)
        with (
            pytest.raises(PackError, match=r"the pack is complete in .*: send it with") as caught,
            destination(uri) as folder,
        ):
            write_pack(folder, faces(5), source={}, classes=NINE)
    assert SECRET not in str(caught.value)
    assert RemotePack(uri)._names() == set()
    copy_pack(Pack.open(folder), uri)
    assert same(Pack.open(uri), Pack.open(folder))
    nowhere = uri.replace("bucket/", "no-bucket/")
    with pytest.raises(PackError, match="the bucket must exist, but there is no 'no-bucket'"), destination(nowhere):
        raise AssertionError("nothing is packed for a place that is not there")


def test_one_process_at_a_time_writes_to_a_uri(tmp_path: Path, cache: Path) -> None:
    uri = f"file://{tmp_path}/far"
    with destination(uri) as folder:
        with pytest.raises(PackError, match="must be written by one process at a time"), destination(uri):
            pass
        write_pack(folder, faces(2), source={})
    assert len(Pack.open(uri)) == 2
