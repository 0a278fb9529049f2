"""The rows of faults.py in which what a search reads is not what it was: checkpoints, packs, the clock."""

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.fault_search import FaultySearch, objects
from tests.conftest import write_toy_pack

DAY_S = 86_400

# -- checkpoints -------------------------------------------------------------------------------------------------


def checkpoint_truncated(search: FaultySearch) -> None:
    """The newest checkpoint loses its second half while nobody trains."""
    _damaged(search, lambda raw: raw[: len(raw) // 2])


def checkpoint_flipped(search: FaultySearch) -> None:
    """One bit of the newest checkpoint flips while nobody trains."""
    _damaged(search, _flipped)


def _flipped(raw: bytes) -> bytes:
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]


def _damaged(search: FaultySearch, damage: Callable[[bytes], bytes]) -> None:
    command = search.start()
    search.until_steps()
    search.hit()
    command.terminate()
    search.end(130)
    checkpoints = [Path(path) for path in objects(search.store) if path.endswith(".ckpt")]
    newest = max(checkpoints, key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(damage(newest.read_bytes()))
    search.start()
    search.end(0)
    if not newest.with_name(f"{newest.name}.damaged").exists():
        raise RuntimeError(f"{newest} was damaged and must be set aside, but was not")


# -- packs -------------------------------------------------------------------------------------------------------


def pack_removed(search: FaultySearch) -> None:
    """A pack is gone, and the slot's worker too, so that it must be opened again; then it is put back."""
    away = search.folder / "away"
    search.start()
    worker = search.until_steps().process
    (search.packs / "real").rename(away)
    search.kill(worker)
    search.end(2)
    away.rename(search.packs / "real")
    search.start()
    search.end(0)


def pack_replaced(search: FaultySearch) -> None:
    """Another pack lies in the place of one, and the slot's worker must open it; then the right one is put back."""
    away = search.folder / "away"
    search.start()
    worker = search.until_steps().process
    (search.packs / "real").rename(away)
    write_toy_pack(search.packs / "real", range(500, 524), synthetic=False)
    search.kill(worker)
    search.end(2)
    search.start()
    search.end(2)  # which says what changed
    shutil.rmtree(search.packs / "real")
    away.rename(search.packs / "real")
    search.start()
    search.end(0)


def pack_flipped(search: FaultySearch) -> None:
    """A bit of each of 4096 bytes of a pack's file flips on the disk while it is mapped, until it is put right."""
    search.start()
    search.until_steps()
    search.hit()
    (file,) = (search.packs / "real").glob("*.arrow")
    right = file.read_bytes()
    middle = len(right) // 2
    _write(file, middle, bytes(byte ^ 128 for byte in right[middle : middle + 4096]))
    output = search.end(2)
    if "is not what was written" not in output:
        raise RuntimeError(f"the command must name what changed, but said:\n{output[-2000:]}")
    search.start()
    search.end(2)  # nor does it begin
    _write(file, 0, right)
    search.start()
    search.end(0)


def _write(file: Path, at: int, data: bytes) -> None:
    """Into the file itself, which stays mapped where it is."""
    with file.open("r+b") as stream:
        stream.seek(at)
        stream.write(data)


# -- the clock ---------------------------------------------------------------------------------------------------


def clock_forward(search: FaultySearch) -> None:
    """The clock of all processes jumps a day ahead."""
    _jumps(search, DAY_S)


def clock_back(search: FaultySearch) -> None:
    """The clock of all processes jumps a day back."""
    _jumps(search, -DAY_S)


def _jumps(search: FaultySearch, seconds: int) -> None:
    search.start()
    search.until_steps()
    search.hit()
    (search.folder / "clock").write_text(str(seconds))
    search.end(0)


DATA = (
    checkpoint_truncated,
    checkpoint_flipped,
    pack_removed,
    pack_replaced,
    pack_flipped,
    clock_forward,
    clock_back,
)
