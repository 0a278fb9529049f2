"""A process that reads broken files for the tests, so that whatever they do to a reader is seen and harms nobody.

It may use MEMORY more than it has, and is ended with its stacks after SECONDS in one file. An audit hook of Python
tells what a reader does beside reading: what it writes outside of its folder, what it runs, whom it calls.
"""

import faulthandler
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 3 << 30  # a panorama of the largest size is 1.6 GB
SECONDS = 60  # of a clock on the wall, which on a busy machine says little
ACTS = ("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn")
CALLS = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind", "urllib.Request")
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.truncate", "os.chmod")


class Guarded:
    """Reads files in such a process, which is started when it is needed, and again after it has ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._said: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115  (close does)

    def read(self, reader: str, folder: Path) -> dict[str, Any]:
        """What became of it: `error` (names of the classes), `message` and `at`, None where it was read, and `acts`.

        Where the process has ended, in a crash or as it never came back from a file, `error` is "Ended".
        """
        if self._process is None:
            self._said.seek(0)
            self._said.truncate()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.guarded"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps([reader, str(folder)]), file=process.stdin, flush=True)
        if not select.select([process.stdout], [], [], 3 * SECONDS)[0]:
            process.kill()  # it has not even ended itself
        line = process.stdout.readline()
        if not line:
            self._process = None
            code = process.wait()
            self._said.seek(0)
            return {"error": ["Ended"], "message": self._said.read()[-3000:], "at": f"exit {code}", "acts": []}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._process = None
        self._said.close()


class Witness:
    """An audit hook: what happens while `folder` is set, but for what a reader may do."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.acts: list[str] = []
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in ACTS or event in CALLS or event == "pickle.find_class":
            self.acts.append(f"{event} {arguments!r:.200}")
        elif event in CHANGES or (event == "open" and self._writes(arguments)):
            places = arguments[:2] if event in ("os.rename", "os.symlink", "os.link") else arguments[:1]
            opened = arguments[-1] if event not in ("open", "os.truncate") else -1
            inside = os.readlink(f"/proc/self/fd/{opened}") if opened >= 0 else ""
            for place in places:  # from the working folder, or from a folder that is open
                if not f"{os.path.abspath(os.path.join(inside, os.fsdecode(place)))}/".startswith(self.folder):
                    self.acts.append(f"{event} {arguments!r:.200}")

    @staticmethod
    def _writes(arguments: tuple[Any, ...]) -> bool:
        path, _, flags = arguments
        wanted = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        return not isinstance(path, int) and isinstance(flags, int) and bool(flags & wanted) and path != os.devnull


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    from tests.fuzz.readers import READERS

    witness = Witness()
    ready: set[str] = set()
    for line in sys.stdin:
        name, folder = json.loads(line)
        reader = READERS[name]
        if name not in ready:
            with tempfile.TemporaryDirectory() as place:  # imports what it needs, once
                valid = Path(place, "valid")
                valid.mkdir()
                reader.make(valid)
                reader.read(valid)
            ready.add(name)
        answer: dict[str, Any] = {"error": None, "message": None, "at": None}
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, resource.RLIM_INFINITY))
        witness.acts, witness.folder = [], f"{folder}/"
        try:
            reader.read(Path(folder))
        except BaseException as error:  # noqa: BLE001  (which one is what is asked)
            frames = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in frames if frame.filename.startswith(f"{ROOT}/")]
            answer["error"] = [cls.__name__ for cls in type(error).__mro__]
            answer["message"] = str(error)
            answer["at"] = f"{os.path.relpath(ours[-1].filename, ROOT)}:{ours[-1].lineno}"
        finally:
            witness.folder = None
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            faulthandler.cancel_dump_traceback_later()
        print(json.dumps({**answer, "acts": witness.acts}), file=out, flush=True)


if __name__ == "__main__":
    faulthandler.enable()
    main()
