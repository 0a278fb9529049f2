"""A pack gives back what was written, byte for byte, or says what is wrong with it."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets import Pack, PackError, write_pack, writer

DTYPES = ["uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]


def rows(count: int, seed: int = 0) -> list[dict]:
    rng = np.random.Generator(np.random.Philox(seed))
    return [{"x": rng.integers(0, 256, (3, 5), dtype=np.uint8), "id": f"é{i}" * (i % 3)} for i in range(count)]


def leftovers(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_come_back_as_written_for_every_dtype(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(writer, "BATCH_BYTES", 200)  # several batches and files
    monkeypatch.setattr(writer, "SHARD_BYTES", 500)
    rng = np.random.Generator(np.random.Philox(1))
    truth = (rng.standard_normal((17, 4, 3)) * 50).astype(dtype)
    pack = write_pack(tmp_path / "p", ({"x": x, "id": str(i)} for i, x in enumerate(truth)), source={})
    assert len(pack.manifest.files) > 1
    assert len(pack) == 17
    for i in range(17):
        sample = pack.sample(i)
        assert sample["x"].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(sample["x"], truth[i])
        assert sample["id"] == str(i)
    pack.verify()


def test_layout_of_the_given_array_does_not_matter(tmp_path):
    plain = np.arange(12, dtype=np.int32).reshape(3, 4)
    given = [plain, np.asfortranarray(plain), plain.astype(">i4"), np.repeat(plain, 2, axis=1)[:, ::2]]
    pack = write_pack(tmp_path / "p", ({"x": x} for x in given), source={})
    for i in range(4):
        np.testing.assert_array_equal(pack.sample(i)["x"], plain)


def test_a_reused_buffer_is_copied(tmp_path):
    buffer = np.zeros((2, 2), np.uint8)

    def stream():
        for i in range(5):
            buffer[:] = i
            yield {"x": buffer}

    pack = write_pack(tmp_path / "p", stream(), source={})
    assert [int(pack.sample(i)["x"][0, 0]) for i in range(5)] == list(range(5))


def test_samples_are_read_only_views_of_the_mapped_file(tmp_path):
    pack = write_pack(tmp_path / "p", rows(4), source={})
    before = pa.total_allocated_bytes()
    first, again = pack.sample(2)["x"], pack.sample(2)["x"]
    assert pa.total_allocated_bytes() == before  # Arrow copied nothing either
    assert np.shares_memory(first, again)
    assert not first.flags.owndata
    assert not first.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        first.flags.writeable = True


def test_other_tools_read_the_files(tmp_path):
    truth = rows(6)
    pack = write_pack(tmp_path / "p", truth, source={})
    table = pa.ipc.open_file(tmp_path / "p" / pack.manifest.files[0].name).read_all()
    np.testing.assert_array_equal(
        table.column("x").combine_chunks().to_numpy_ndarray(), np.stack([row["x"] for row in truth])
    )
    assert table.column("id").to_pylist() == [row["id"] for row in truth]


def test_columns_can_be_chosen_and_unknown_ones_are_named(tmp_path):
    pack = write_pack(tmp_path / "p", rows(2), source={})
    assert set(pack.sample(0, ["x"])) == {"x"}
    with pytest.raises(KeyError, match=r"no column 'alpha'; this pack has x, id"):
        pack.sample(0, ["alpha"])
    with pytest.raises(KeyError, match="no column 'checksums'"):
        pack.sample(0, ["checksums"])
    for i in (-1, 2):
        with pytest.raises(IndexError, match="0 <= i < 2"):
            pack.sample(i)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.integers(1, 400), shard=st.integers(1, 2000), count=st.integers(1, 30))
def test_digest_does_not_depend_on_batches_and_files(tmp_path, monkeypatch, batch, shard, count):
    write_pack(tmp_path / "a", rows(count), source={"made": "one"}, overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(writer, "BATCH_BYTES", batch)
        patch.setattr(writer, "SHARD_BYTES", shard)
        other = write_pack(tmp_path / "b", rows(count), source={"made": "other"}, overwrite=True)
    assert other.digest == Pack.open(tmp_path / "a").digest
    other.verify()
    for i, row in enumerate(rows(count)):
        np.testing.assert_array_equal(other.sample(i)["x"], row["x"])
        assert other.sample(i)["id"] == row["id"]


def test_digest_covers_content_order_columns_and_classes(tmp_path):
    def digest(samples, classes=None):
        return write_pack(tmp_path / "p", samples, source={}, classes=classes, overwrite=True).digest

    base = rows(5)
    pixel = rows(5)
    pixel[3]["x"][2, 2] ^= 1
    name = rows(5)
    name[1]["id"] += "!"
    moved = [rows(5)[i] for i in (1, 0, 2, 3, 4)]
    renamed = [{"y": row["x"], "id": row["id"]} for row in base]
    reshaped = [{"x": row["x"].reshape(5, 3), "id": row["id"]} for row in base]
    strings = [{"a": "ab", "b": "c"}], [{"a": "a", "b": "bc"}], [{"a": "", "b": "abc"}]
    digests = [digest(s) for s in (base, base[:4], pixel, name, moved, renamed, reshaped, *strings)]
    digests += [digest(base, ["one"]), digest(base, ["one", "two"])]
    assert len(set(digests)) == len(digests)
    assert digest(rows(5)) == digests[0]


def test_a_flipped_bit_of_the_content_is_found(tmp_path):
    pack = write_pack(tmp_path / "p", rows(50), source={})
    path = tmp_path / "p" / pack.manifest.files[0].name
    data = bytearray(path.read_bytes())
    at = bytes(data).index(rows(50)[25]["x"].tobytes())
    data[at + 7] ^= 4
    path.write_bytes(data)
    with pytest.raises(PackError, match=r"the file is damaged \(x of sample 25 is not what was written\)") as error:
        Pack.open(tmp_path / "p").verify()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("settled", [False, True])
def test_what_changes_under_an_open_pack_is_found_when_it_is_read(tmp_path, settled):
    """As when somebody writes into a file that a search has mapped, and has read before."""
    pages = np.random.Generator(np.random.Philox(2)).integers(0, 256, (6, 3, 4099), dtype=np.uint8)
    pack = write_pack(tmp_path / "p", ({"x": page, "id": f"n{i}"} for i, page in enumerate(pages)), source={})
    file = tmp_path / "p" / pack.manifest.files[0].name
    if settled:
        time.sleep(2.1)
    for i in range(6):
        pack.sample(i)
    start = file.read_bytes().index(pages[3].tobytes())
    for at, count in ((0, 1), (4095, 2), (4096, 4096), (3 * 4099 - 1, 1)):  # of a page, of two, and of the rest
        with file.open("r+b") as stream:
            stream.seek(start + at)
            stream.write(bytes(byte ^ 128 for byte in pages[3].tobytes()[at : at + count]))
        with pytest.raises(PackError, match=r"x of sample 3 is not what was written") as error:
            pack.sample(3)
        assert str(file) in str(error.value)
        assert pack.sample(3, ["id"]) == {"id": "n3"}  # what is read is what is compared
        with file.open("r+b") as stream:
            stream.seek(start)
            stream.write(pages[3].tobytes())
        np.testing.assert_array_equal(pack.sample(3)["x"], pages[3])


def test_what_is_cut_off_under_an_open_pack_is_an_error_and_kills_nobody(tmp_path):
    pack = write_pack(tmp_path / "p", [{"x": np.zeros((64, 1024), np.uint8)}], source={})
    pack.sample(0)
    file = tmp_path / "p" / pack.manifest.files[0].name
    os.truncate(file, 10)
    with pytest.raises(PackError, match=r"damaged \(must have \d+ bytes, but has 10\)"):
        pack.sample(0)


def test_the_digest_finds_what_checksums_do_not(tmp_path):
    """Words of a page that change places have the sum that they had."""
    words = np.arange(1024, dtype=np.uint64)
    pack = write_pack(tmp_path / "p", [{"x": words}], source={})
    file = tmp_path / "p" / pack.manifest.files[0].name
    data = file.read_bytes()
    at = data.index(words.tobytes())
    words[[3, 4]] = words[[4, 3]]
    file.write_bytes(data[:at] + words.tobytes() + data[at + words.nbytes :])
    with pytest.raises(PackError, match="content's digest must be"):
        Pack.open(tmp_path / "p").verify()


def test_no_flipped_byte_anywhere_changes_what_is_read_unnoticed(tmp_path):
    truth = rows(3)
    pack = write_pack(tmp_path / "p", truth, source={})
    path = tmp_path / "p" / pack.manifest.files[0].name
    data = path.read_bytes()
    found = 0
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
        damaged = Pack.open(tmp_path / "p")
        try:
            damaged.verify()
        except PackError:
            found += 1
            continue
        for i, row in enumerate(truth):  # padding, or metadata that nothing reads
            np.testing.assert_array_equal(damaged.sample(i)["x"], row["x"])
            assert damaged.sample(i)["id"] == row["id"]
    assert found > sum(row["x"].size for row in truth)


def test_open_refuses_what_is_not_whole(tmp_path):
    with pytest.raises(PackError, match="no pack here"):
        Pack.open(tmp_path)
    pack = write_pack(tmp_path / "p", rows(5), source={})
    path = tmp_path / "p" / pack.manifest.files[0].name
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    with pytest.raises(PackError, match=f"{path}: must have {len(data)} bytes, but has {len(data) - 100}"):
        Pack.open(tmp_path / "p")
    path.unlink()
    with pytest.raises(PackError, match="the file is missing"):
        Pack.open(tmp_path / "p")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 1),
        ("count", 6),
        ("digest", "abc"),
        ("files", [{"name": "../x.arrow", "rows": 5, "bytes": 9}]),
        ("x", 1),
    ],
)
def test_open_refuses_a_wrong_manifest_in_one_line(tmp_path, field, value):
    write_pack(tmp_path / "p", rows(5), source={})
    manifest = tmp_path / "p" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {field: value}))
    with pytest.raises(PackError) as error:
        Pack.open(tmp_path / "p")
    assert str(tmp_path / "p") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            {"x": np.zeros((3, 4), np.uint8), "id": "1"},
            r"sample 1, column 'x': must be uint8\[3, 5\] as before, but got",
        ),
        (
            {"x": np.zeros((3, 5), np.float32), "id": "1"},
            r"sample 1, column 'x': must be uint8\[3, 5\] as before, but got",
        ),
        ({"x": np.zeros((3, 5), np.uint8)}, r"sample 1: columns must be \['id', 'x'\], but got \['x'\]"),
        ({"x": np.zeros((3, 5), bool), "id": "1"}, "sample 1, column 'x': dtype must be one of"),
        ({"x": [1], "id": "1"}, "sample 1, column 'x': a value must be a numpy array or a str, but got list"),
    ],
)
def test_unequal_samples_are_named_and_nothing_is_left(tmp_path, second, message):
    with pytest.raises(PackError, match=message):
        write_pack(tmp_path / "p", [rows(1)[0], second], source={})
    assert leftovers(tmp_path) == []


def test_the_name_of_the_checksums_is_taken(tmp_path):
    with pytest.raises(PackError, match="sample 0: a column must not be named 'checksums'"):
        write_pack(tmp_path / "p", [rows(1)[0] | {"checksums": "1"}], source={})
    assert leftovers(tmp_path) == []


def test_no_samples_is_an_error_and_nothing_is_left(tmp_path):
    with pytest.raises(PackError, match=r"/p: a pack needs a sample, but got none"):
        write_pack(tmp_path / "p", [], source={})
    assert leftovers(tmp_path) == []


def test_an_error_of_the_samples_passes_through_and_leaves_the_old_pack(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "BATCH_BYTES", 60)
    old = write_pack(tmp_path / "p", rows(3), source={})

    def failing():
        yield from rows(9)
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        write_pack(tmp_path / "p", failing(), source={}, overwrite=True)
    assert leftovers(tmp_path) == ["p"]
    Pack.open(tmp_path / "p").verify()
    assert Pack.open(tmp_path / "p").digest == old.digest


SELF_SIGNAL = """
import os, signal, sys
import numpy as np
from datasets import write_pack, writer
writer.BATCH_BYTES = 60
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
def stream():
    for i in range(40):
        if i == 30:
            os.kill(os.getpid(), int(sys.argv[2]))
        yield {"x": np.full((3, 5), i, np.uint8)}
write_pack(sys.argv[1], stream(), source={})
"""


@pytest.mark.parametrize(("number", "left"), [(signal.SIGINT, 0), (signal.SIGKILL, 1)])
def test_a_killed_writer_leaves_no_pack(tmp_path, number, left):
    done = subprocess.run(
        [sys.executable, "-c", SELF_SIGNAL, str(tmp_path / "p"), str(int(number))], capture_output=True
    )
    assert done.returncode != 0
    assert not (tmp_path / "p").exists()
    hidden = leftovers(tmp_path)
    assert len(hidden) == left
    assert all(name.startswith(".p.writing-") for name in hidden)
    write_pack(tmp_path / "p", rows(3), source={}).verify()


def test_overwrite_is_asked_for_and_never_replaces_another_folder(tmp_path):
    old = write_pack(tmp_path / "p", rows(3), source={})
    with pytest.raises(PackError, match="exists; choose another path or pass overwrite"):
        write_pack(tmp_path / "p", rows(4), source={})
    opened = Pack.open(tmp_path / "p")  # opened, not yet mapped
    new = write_pack(tmp_path / "p", rows(3, seed=1), source={}, overwrite=True)
    assert new.digest != old.digest
    with pytest.raises(PackError, match="damaged"):
        opened.sample(0)  # never the other pack's rows under this one's digest
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("x")
    with pytest.raises(PackError, match="exists and is not a pack"):
        write_pack(tmp_path / "precious", rows(3), source={}, overwrite=True)
    assert leftovers(tmp_path) == ["p", "precious"]


def test_a_pack_can_be_pickled_and_refuses_another_content(tmp_path):
    pack = write_pack(tmp_path / "p", rows(5), source={"a": 1}, classes=["one", "two"])
    pack.sample(3)
    data = pickle.dumps(pack)
    assert len(data) < 1000  # a path, not the rows
    again = pickle.loads(data)
    assert (again.path, again.digest, again.manifest) == (pack.path, pack.digest, pack.manifest)
    np.testing.assert_array_equal(again.sample(3)["x"], pack.sample(3)["x"])
    write_pack(tmp_path / "p", rows(5, seed=1), source={}, overwrite=True)
    with pytest.raises(PackError, match="the pack was replaced"):
        pickle.loads(data)


def test_importing_datasets_brings_neither_torch_nor_opencv():
    code = "import sys, datasets; print(sorted({'torch', 'cv2', 'albumentations'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
