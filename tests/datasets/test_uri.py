"""What is shown of a URI holds none of its secrets, and all else of it."""

import pytest

from datasets.uri import reason, redacted


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("s3://bucket/packs/x", "s3://bucket/packs/x"),
        ("s3://bucket/a@b/x", "s3://bucket/a@b/x"),
        ("s3://key:secret@bucket/x", "s3://***@bucket/x"),
        ("s3://key:se/cr:et@bucket/x", "s3://***@bucket/x"),
        ("s3://key:se@cret@bucket/x", "s3://***@bucket/x"),
        ("s3://key:se?cret@bucket/x?region=eu", "s3://***@bucket/x?region=eu"),
        ("gs://token@bucket/x", "gs://***@bucket/x"),
        (
            "s3://b/x?endpoint_override=127.0.0.1:9000&scheme=http&region=eu-west-1",
            "s3://b/x?endpoint_override=127.0.0.1:9000&scheme=http&region=eu-west-1",
        ),
        ("s3://b/x?secret_key=secret&region=eu", "s3://b/x?secret_key=***&region=eu"),
        ("s3://b/x?scheme=http&sig=a/b+c==", "s3://b/x?scheme=http&sig=***"),
        ("postgresql://u:secret@host:5432/db", "postgresql://***@host:5432/db"),
        ("abfs://container:secret@account.dfs.core.windows.net/x", "abfs://***@account.dfs.core.windows.net/x"),
        ("real: {a: s3://k:secret@b/x?secret_key=secret}", "real: {a: s3://***@b/x?secret_key=***}"),
        ("[s3://b/x?sig=secret, 's3://k:secret@c']", "[s3://b/x?sig=***, 's3://***@c']"),
        ("/plain/path@home?x=1", "/plain/path@home?x=1"),
    ],
)
def test_users_passwords_and_query_values_are_hidden(given: str, shown: str) -> None:
    assert redacted(given) == shown
    assert redacted(shown) == shown


def test_an_errors_reason_is_its_first_sentence() -> None:
    long = OSError("AWS Error X during HeadObject: curlCode: 7, Could not connect; Details: Failed to connect (again)")
    assert reason(long) == "AWS Error X during HeadObject: curlCode: 7, Could not connect"
    assert reason(OSError(28, "No space left on device")) == "No space left on device"
    assert reason(ValueError("Cannot parse URI: 's3://k:sec/ret@b'\nmore")) == "Cannot parse URI: 's3://***@b'"
    assert reason(OSError()) == "OSError"
