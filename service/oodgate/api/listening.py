"""What the service listens with: an address that is free, a certificate with its key, uvicorn's options."""

import resource
import socket
import ssl
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from oodgate.errors import SetupError
from oodgate.settings import Settings


def check_certificate(settings: Settings) -> None:
    """Raise SetupError unless certificate and key are both absent, or belong together."""
    if not settings.tls_certificate and not settings.tls_key:
        return
    if not settings.tls_certificate or not settings.tls_key:
        raise SetupError("HTTPS needs a certificate and its key; set OODGATE_TLS_CERTIFICATE and OODGATE_TLS_KEY both")
    try:  # a key with a password would have the terminal asked for it
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key, password="")
    except OSError as error:
        raise SetupError(
            f"{settings.tls_certificate} and {settings.tls_key} cannot be used ({error.strerror or error}); "
            "expected a certificate and its key in PEM form without a password"
        ) from error


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; raises SetupError where it cannot."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise cannot_listen(host, port) from error


def cannot_listen(host: str, port: int) -> SetupError:
    """What the operator is told of an address that is not free."""
    return SetupError(f"cannot listen on {host}:{port}; free it or choose another port")


def server_config(app: ASGIApp, protocol: Any, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves an application, by what makes its side of a connection."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        headers=[("X-Content-Type-Options", "nosniff")],
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=settings.proxies,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        timeout_keep_alive=settings.keep_alive_ms / 1000,  # type: ignore[arg-type]  # parts of a second are taken too
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout_ms / 1000)),
    )


def allow_descriptors() -> None:
    """Use as many connections as the system lets this process have; the usual soft limit is 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
