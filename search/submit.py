"""submit: a search as a Ray job. It runs on the cluster's head and goes on while this machine sleeps or is elsewhere.

Submitting it again follows the job that runs, and starts another one where none does: `run` is idempotent, so that
this goes on from where the last one ended.
"""

import asyncio
import hashlib
import logging
import os
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from datasets.uri import redacted
from search.cluster import ENVIRONMENT, EXCLUDES
from search.config import SearchConfig
from search.parcel import Parcel, pack_up

ADDRESS = "http://127.0.0.1:8265"  # Ray's dashboard: on the head itself, or through a forwarded port
RESULTS = "${TITRATE_RESULTS:-$HOME/titrate/results}"  # read by the head's shell
STOP_WAIT_S = 120  # for an orderly end: running trials are checkpointed, and MLflow's runs closed
SILENT_S = 60.0  # a connection that says nothing for so long may be dead: it is made anew
RETRY_S = 5.0

SEARCH, DIGEST = "titrate.search", "titrate.file"  # metadata of a job


def submit(
    file: Path,
    config: SearchConfig,
    *,
    address: str | None,
    shared: Iterable[str],
    results: str | None,
    share: bool,
    wait: bool,
    console: Console,
) -> int:
    """Starts the search as a job, or finds the one that runs, and follows its log. Returns the exit code.

    Raises ValueError, one line, for a cluster that is not reached and for a search file that cannot run there.

    address  of Ray's dashboard, or of the cluster where this machine is in it
    shared   folders that every node mounts at the same path (search/parcel.py)
    results  the folder of results on the head; None is the head's TITRATE_RESULTS, else ~/titrate/results
    wait     whether to follow the log to the job's end
    """
    say: Callable[[str], None] = lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)  # noqa: E731
    client = _client(address)
    jobs = [job for job in _asked(client.list_jobs) if job.submission_id]
    mine = [job for job in jobs if (job.metadata or {}).get(SEARCH) == config.name]
    running = next((job for job in mine if not job.status.is_terminal()), None)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    stop = f"ray job stop {{}} --address {redacted(client.get_address())}"
    if running is not None:
        job = running.submission_id
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime((running.start_time or 0) / 1000))
        say(f"search {config.name} runs already, as job {job}, since {since}")
        if running.metadata.get(DIGEST) != digest:
            say(f"{file} has changed since: that counts from the next job on; {stop.format(job)}, then submit again")
    else:
        with tempfile.TemporaryDirectory(prefix="titrate-submit-") as folder:
            parcel = pack_up(file, config, shared, Path(folder) / "job", results=results)
            job = _start(client, parcel, config.name, _next(config.name, jobs), digest, results, share)
        say(f"search {config.name} is submitted as job {job}")
    tracking = redacted(config.tracking.uri or "as the head's MLFLOW_TRACKING_URI says (docs/cluster.md: how to look)")
    say(f"  dashboard  {redacted(client.get_address())}/#/jobs/{job}")
    say(f"  MLflow     {tracking}")
    say(f"  stop       {stop.format(job)}   (running trials are checkpointed)")
    if not wait:
        return 0
    say("its log follows; Ctrl-C leaves the log, and the job goes on")
    try:
        status, message = asyncio.run(
            _follow(client, job, lambda text: console.out(text, end="", highlight=False), say)
        )
    except KeyboardInterrupt:
        say(f"\njob {job} goes on; the same command follows it again, and this stops it: {stop.format(job)}")
        return 130
    if status == "SUCCEEDED":
        return 0
    why = redacted(message.splitlines()[0])[:300] if message else ""
    say(f"job {job} {'was stopped' if status == 'STOPPED' else f'failed: {why}'}; submit it again to go on")
    return 1


def _client(address: str | None) -> Any:
    """Ray's own client; ValueError, one line, when the cluster is not there or does not let us in."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address is not None:
        os.environ["RAY_API_SERVER_ADDRESS"] = address  # Ray lets RAY_ADDRESS overrule an argument
    from ray.job_submission import JobSubmissionClient

    for name in ("ray", *{one.__module__ for one in JobSubmissionClient.__mro__[:-1]}):
        logging.getLogger(name).setLevel(logging.WARNING)  # they tell of each file and connection
    named = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or ADDRESS
    try:
        return _asked(lambda: JobSubmissionClient(named))
    except OSError as error:  # requests' own errors are such
        reason = redacted(str(error)).splitlines()[0]
        raise ValueError(
            f"the dashboard of a Ray cluster must be reachable at {redacted(named)!r}, but: {reason}; start the"
            " cluster, forward the port (docs/cluster.md), or give --address"
        ) from None


def _asked(question: Callable[[], Any]) -> Any:
    """What Ray's server answers; ValueError, one line, where it refuses us."""
    from ray.exceptions import AuthenticationError

    try:
        return question()
    except AuthenticationError as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"the Ray cluster must know this machine's token, but: {reason}; set RAY_AUTH_MODE=token, and have the"
            " cluster's token in ~/.ray/auth_token"
        ) from None


def _next(search: str, jobs: Iterable[Any]) -> str:
    """A name that no job of the search has had: Ray takes none twice."""
    names = (re.fullmatch(rf"{re.escape(search)}-(\d+)", job.submission_id) for job in jobs)
    return f"{search}-{max((int(name[1]) for name in names if name), default=0) + 1}"


def _start(client: Any, parcel: Parcel, search: str, job: str, digest: str, results: str | None, share: bool) -> str:
    """Uploads the parcel and starts the job; two who start the same at once get one job."""
    words = ["exec", "python", "-m", "search", "run", shlex.quote(str(parcel.file))]
    words += ["--results", f'"{RESULTS}"' if results is None else shlex.quote(results)]
    words += [] if share else ["--no-share"]
    environment = {
        "working_dir": str(parcel.folder),
        "excludes": EXCLUDES,
        "env_vars": {"NO_ALBUMENTATIONS_UPDATE": "1", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)},
    }
    metadata = {SEARCH: search, DIGEST: digest}
    try:
        _asked(
            lambda: client.submit_job(
                entrypoint=" ".join(words), runtime_env=environment, metadata=metadata, submission_id=job
            )
        )
    except RuntimeError as error:
        if "already exists" not in str(error) and "already been" not in str(error):
            reason = redacted(" ".join(str(error).split()))[:300]
            raise ValueError(f"the Ray cluster must take the job {job}, but: {reason}") from None
    return job


async def _follow(client: Any, job: str, show: Callable[[str], None], say: Callable[[str], None]) -> tuple[str, str]:
    """Shows a job's log to its end, through lost connections, every character once. Returns its status and message."""
    from aiohttp import ClientError  # which is no OSError where a forwarded port answers and what is behind it does not

    shown, lost = 0, False
    while True:
        position = 0
        log = client.tail_job_logs(job)  # from the log's beginning
        try:
            while (text := await asyncio.wait_for(anext(log, None), SILENT_S)) is not None:
                fresh = text[max(0, shown - position) :]
                position += len(text)
                shown = max(shown, position)
                if fresh:
                    show(fresh)
                lost = False
        except TimeoutError:
            pass
        except (RuntimeError, OSError, ClientError) as error:
            lost = _say_lost(error, lost, say)
        finally:
            await log.aclose()
        try:
            info = await asyncio.to_thread(_asked, lambda: client.get_job_info(job))
            if info.status.is_terminal():
                return str(info.status), info.message or ""
        except (RuntimeError, OSError) as error:
            lost = _say_lost(error, lost, say)
        await asyncio.sleep(RETRY_S if lost else RETRY_S / 10)  # a job's end is known a moment after its log's


def _say_lost(error: Exception, lost: bool, say: Callable[[str], None]) -> bool:
    if not lost:
        reason = redacted(" ".join(str(error).split()))[:200] or type(error).__name__
        say(f"\nthe cluster is not reached ({reason}); the job goes on there, and its log as soon as it is")
    return True
