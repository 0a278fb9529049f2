"""Where the store has a stage, in whichever division: found by its key, without the process that trained it."""

from collections.abc import Iterator

from pyarrow import fs

from datasets.remote import listing
from datasets.uri import reason, redacted
from trainables.claims import FOLDER
from trainables.objects import EVALUATION, Evaluation, Objects, StoreError, parse_evaluation
from trainables.store import Store


def divisions(uri: str, namespace: str) -> list[tuple[str, Store]]:
    """The divisions of a store, each with the store of a namespace in it; none where there is no store.

    Raises StoreError, one line, where it cannot be read.
    """
    try:
        objects = Objects(uri)
        top = listing(objects.filesystem, objects.root)
    except (ValueError, OSError) as error:  # pyarrow's own errors are both
        raise StoreError(f"{redacted(uri)}: the store must be readable, but: {reason(error)}") from None
    names = sorted(one.base_name for one in top if one.type == fs.FileType.Directory and one.base_name != FOLDER)
    return [(name, Store(uri, f"{name}/{namespace}".rstrip("/"))) for name in names]


def evaluations(store: Store, stage: str, step: int) -> Iterator[Evaluation]:
    """All that a stage's checkpoint at a step was measured to be, on whichever set."""
    folder = f"{store.root}/{stage}"
    for info in listing(store.objects.filesystem, folder):
        match = EVALUATION.fullmatch(info.base_name)
        if match and int(match[1]) == step and (raw := store.objects.read(info.path)) is not None:
            found = parse_evaluation(raw)
            if found is not None:
                yield found
