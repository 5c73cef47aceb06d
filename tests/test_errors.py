"""The tree of errors: its drawing, its codes and its statuses."""

import re
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from oodgate import errors
from oodgate.errors import InferenceFailed, OodgateError, RequestError, SetupError

TREE = (errors.__doc__ or "").split("A message says")[0]


def below(kind: type[OodgateError]) -> Iterator[type[OodgateError]]:
    for child in kind.__subclasses__():
        yield child
        yield from below(child)


REQUEST_ERRORS = list(below(RequestError))


def test_the_drawn_tree_lists_every_class_once() -> None:
    drawn = re.findall(r"\|- (\w+)|, (\w+) \d{3}|^ {4}(\w+Error)$", TREE, re.MULTILINE)
    names = sorted("".join(match) for match in drawn)
    assert names == sorted(kind.__name__ for kind in (OodgateError, *below(OodgateError)))


def test_the_drawn_statuses_are_those_of_the_classes() -> None:
    drawn = dict(re.findall(r"(\w+) (\d{3})\b", TREE))
    assert drawn == {kind.__name__: str(kind.status) for kind in REQUEST_ERRORS}


def test_every_class_of_the_module_is_in_the_tree() -> None:
    classes = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert classes == {OodgateError, *below(OodgateError)}


def test_setup_errors_and_request_errors_are_apart() -> None:
    assert not set(below(SetupError)) & set(REQUEST_ERRORS)


def test_codes_are_unique_and_so_are_titles() -> None:
    codes = [kind.code for kind in (RequestError, *REQUEST_ERRORS)]
    titles = [kind.title for kind in (RequestError, *REQUEST_ERRORS)]
    assert len(set(codes)) == len(codes)
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("kind", REQUEST_ERRORS)
def test_a_code_is_the_name_in_lower_case_with_underscores(kind: type[RequestError]) -> None:
    assert kind.code == re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
    assert kind.__doc__ and kind.__doc__.endswith(".")


@pytest.mark.parametrize("kind", REQUEST_ERRORS)
def test_clients_are_told_when_to_come_back_where_that_helps(kind: type[RequestError]) -> None:
    comes_back = kind.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    assert (kind.retry_after_s is not None and kind.retry_after_s > 0) is comes_back


def test_a_message_is_shown_as_it_is() -> None:
    assert str(InferenceFailed("try again")) == "try again"
