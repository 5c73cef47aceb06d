"""One address on which several processes listen; the system deals connections out to them."""

import socket

from oodgate.api.listening import cannot_listen, listen


def share(host: str, port: int, count: int) -> list[socket.socket]:
    """Sockets bound to the same address, one for each process; raises SetupError where it is not free."""
    with listen(host, port) as alone:  # which another service on this address refuses, even one that would share it
        port = alone.getsockname()[1]
    return [_bound(host, port) for _ in range(count)]


def _bound(host: str, port: int) -> socket.socket:
    sharing = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            sharing.setsockopt(socket.SOL_SOCKET, option, 1)
        sharing.bind((host, port))
    except OSError as error:
        sharing.close()
        raise cannot_listen(host, port) from error
    return sharing
