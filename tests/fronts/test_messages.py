"""What one process says the other understands, and nothing else."""

from collections.abc import Callable

import pytest
from starlette.types import Scope

from oodgate.errors import QueueFull, RequestError
from oodgate.fronts.messages import (
    Ask,
    Counted,
    pack_ask,
    pack_body,
    pack_refusal,
    pack_report,
    pack_scope,
    pack_start,
    read_ask,
    read_body,
    read_refusal,
    read_report,
    read_scope,
    read_start,
)

ASK = Ask(3, 1, 5, 1.5, 100.25, "an id", "key me", "one me", 250.0)


def test_a_question_keeps_its_numbers_and_its_file_to_the_byte() -> None:
    file = b"\n\x00{}\nfile"
    assert read_ask(b"".join(pack_ask(ASK, file))) == (ASK, file)


def test_an_error_is_the_same_in_the_other_process() -> None:
    full = QueueFull("256 images are waiting already")
    full.busy_s = 0.75
    error = read_refusal(pack_refusal(full))
    assert (type(error), str(error), error.busy_s) == (QueueFull, "256 images are waiting already", 0.75)


def test_every_error_of_a_request_has_a_code_of_its_own() -> None:
    for kind in RequestError.__subclasses__():
        assert type(read_refusal(pack_refusal(kind("why")))) is kind


def test_counts_keep_labels_and_durations() -> None:
    counted = [
        Counted("http_requests", ("/v1/predict", "POST", "200"), 2, []),
        Counted("http_duration", ("/v1/predict",), 0, [0.25, 0.5]),
    ]
    assert read_report(pack_report(counted)) == counted


@pytest.mark.parametrize("client", [("203.0.113.7", 5), None])
def test_a_request_looks_the_same_from_the_other_process(client: tuple[str, int] | None) -> None:
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "https",
        "method": "GET",
        "path": "/a b/é",
        "root_path": "",
        "raw_path": b"/a%20b/\xff",
        "query_string": b"x=\xe9",
        "headers": [(b"host", b"a"), (b"x-odd", b"\xff\x00")],
        "client": client,
        "server": ("127.0.0.1", 8000),
    }
    assert read_scope(pack_scope(scope | {"state": {"secret": object()}, "extensions": {}})) == scope | {"state": {}}


def test_an_answer_keeps_status_headers_and_parts() -> None:
    start = {"type": "http.response.start", "status": 207, "headers": [(b"a", b"\xff")]}
    assert read_start(pack_start(start)) == start
    for more in (True, False):
        part = {"type": "http.response.body", "body": b"\x00part", "more_body": more}
        assert read_body("http.response.body", b"".join(pack_body(part))) == part


@pytest.mark.parametrize(
    ("read", "payload"),
    [
        (read_ask, b"[1,2]\nfile"),
        (read_ask, b'["no slot",1,5,1.5,100.25,"id","c","l",250.0]\n'),
        (read_refusal, b"{}"),
        (read_refusal, b'["queue_full","full",-1]'),
        (read_report, b'[["http_requests",["a"],"many",[]]]'),
        (read_report, b'[["another_metric",["a"],1,[]]]'),
        (read_start, b"[99,[]]"),
        (read_scope, b"no JSON"),
    ],
)
def test_what_nobody_says_raises_value_error(read: Callable[[bytes], object], payload: bytes) -> None:
    with pytest.raises(ValueError):  # what is wrong is said by the reader's library
        read(payload)
