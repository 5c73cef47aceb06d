"""Processes of one service share an address that no other service can have."""

import socket

import pytest

from oodgate.errors import SetupError
from oodgate.fronts.ports import share

LOOPBACK = "127.0.0.1"


def test_all_listen_on_one_free_port() -> None:
    sockets = share(LOOPBACK, 0, 3)
    assert len({one.getsockname() for one in sockets}) == 1
    for one in sockets:
        one.listen()
        one.close()


def test_an_address_of_somebody_else_is_refused_though_it_would_be_shared() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SetupError, match=f"cannot listen on {LOOPBACK}:{port}; free it"):
            share(LOOPBACK, port, 2)
