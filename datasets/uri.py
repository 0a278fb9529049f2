"""URIs: what names a folder on another filesystem, and how it is shown without the secrets that it may carry.

A URI of pyarrow's may hold a key and its secret before an `@`, or in its query. Everything that a person or MLflow
sees of one goes through `redacted`.
"""

import re

# Query keys whose values are no secret. Whatever else stands in a query is hidden.
_SHOWN = ("endpoint_override", "region", "scheme", "allow_bucket_creation", "retry_limit_seconds")
_USER = re.compile(r"(?<=://)(?:[^/@?\s\"':]*:[^\s\"']*|[^/@?\s\"']*)@")
_VALUE = re.compile(rf"(?<=[?&])(?!(?:{'|'.join(_SHOWN)})=)([^=&?\s\"']+)=[^&\s\"']*?(?=[\])}},;.]*(?:[&\s\"']|$))")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"']*")
_NUMBER = re.compile(r"^\[Errno \d+\] ")
# Behind these pyarrow's errors say again, and longer, what they said before.
_REST = re.compile(r" \(Request ID|; Details:| error_info=|\. Detail:")


def is_uri(place: str) -> bool:
    return "://" in place


def redacted(text: str) -> str:
    """A URI, or a text with URIs, in which what may be a secret reads `***`: users, passwords, values of queries."""
    return _URI.sub(lambda found: _VALUE.sub(r"\1=***", _USER.sub("***@", found[0])), text)


def reason(error: Exception) -> str:
    """What an error of pyarrow or of the system says, without secrets: its first sentence, at most 300 characters."""
    lines = redacted(str(error)).strip().splitlines() or [type(error).__name__]
    return _REST.split(_NUMBER.sub("", lines[0]), maxsplit=1)[0][:300]
