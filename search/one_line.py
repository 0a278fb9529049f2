"""One line: how a command shows what a user can mend."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from datasets.uri import redacted


@contextmanager
def one_line(interrupted: str) -> Iterator[None]:
    """Shows what a user can mend as one line, without secrets; anything else keeps its traceback.

    interrupted  what is to be said after a Ctrl-C
    """
    try:
        yield
    except (ValueError, OSError) as error:
        print(f"error: {redacted(' '.join(str(error).split()))}", file=sys.stderr)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        print(f"error: interrupted{interrupted}", file=sys.stderr)
        raise typer.Exit(130) from None
