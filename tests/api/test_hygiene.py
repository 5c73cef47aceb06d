"""What surrounds every answer: TLS, names, proxies, ports, sizes of headers, and headers for browsers."""

import datetime
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from conftest import StartServer, encoded, random_picture
from contract import connect, exchange, metric, predict, read_prediction, read_problem, serving
from networks import plain
from oodgate.api.doors import asked_name, is_allowed
from oodgate.api.listening import check_certificate, listen
from oodgate.api.protocol import MAX_HEAD_BYTES, MAX_HEADERS
from oodgate.errors import SetupError
from oodgate.settings import Settings

PNG = encoded(random_picture(0))


@pytest.fixture(scope="module")
def client(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(bundle_folder, tmp_path_factory.mktemp("logs")) as connected:
        yield connected


def write_certificate(folder: Path, password: bytes = b"") -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "oodgate")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    private.write_bytes(key.private_bytes(*form, lock))
    return certificate, private


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@pytest.mark.parametrize("fronts", [0, 1])
def test_predictions_are_served_over_tls_to_those_who_trust_the_certificate(
    tmp_path: Path, start_server: StartServer, fronts: int
) -> None:
    certificate, key = write_certificate(tmp_path)
    server = start_server(fronts=fronts, tls_certificate=certificate, tls_key=key)
    assert server.url.startswith("https://")
    trusting = ssl.create_default_context(cafile=str(certificate))
    with httpx.Client(base_url=server.url, verify=trusting, timeout=60) as client:
        read_prediction(predict(client, PNG))
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{server.url}/healthz")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.url.replace('https', 'http')}/healthz")


def test_a_certificate_that_cannot_be_served_is_the_operators_trouble(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "locked").mkdir()
    other, locked = write_certificate(tmp_path / "other")[1], write_certificate(tmp_path / "locked", b"secret")
    check_certificate(Settings(tls_certificate=certificate, tls_key=key))
    check_certificate(Settings())
    for pair in ((certificate, other), (certificate, tmp_path / "none"), (key, key), locked):
        with pytest.raises(SetupError, match="cannot be used"):
            check_certificate(Settings(tls_certificate=pair[0], tls_key=pair[1]))
    for one in ({"tls_certificate": certificate}, {"tls_key": key}):
        with pytest.raises(SetupError, match="both"):
            check_certificate(Settings(**one))


def test_another_name_than_those_allowed_is_refused_but_for_probes(start_server: StartServer) -> None:
    server = start_server(allowed_hosts="Gate.example,*.inner.example")
    with connect(server.url) as client:
        for name in ("gate.example", "GATE.example:8000", "a.inner.example", "a.b.inner.example:1"):
            assert client.get("/v1/model", headers={"Host": name}).status_code == 200
        for name in (
            "127.0.0.1",
            "evil.example",
            "gate.example.evil",
            "inner.example",
            "xgate.example",
            "gate.example:a",
        ):
            read_problem(client.get("/v1/model", headers={"Host": name}), 421, "host_refused")
            assert client.get("/readyz", headers={"Host": name}).status_code == 200
        bare = exchange(client, b"GET /v1/model HTTP/1.0\r\n\r\n")
        twice = b"Host: gate.example\r\nHost: evil.example\r\n"
        double = exchange(client, b"GET /v1/model HTTP/1.1\r\n" + twice + b"Connection: close\r\n\r\n")
        assert bare.startswith(b"HTTP/1.1 421 ")
        assert double.startswith((b"HTTP/1.1 421 ", b"HTTP/1.1 400 "))
        document = client.get("/openapi.json", headers={"Host": "gate.example"}).json()
        statuses = {
            path: set(each["responses"]) for path in document["paths"] for each in document["paths"][path].values()
        }
        assert {path for path, found in statuses.items() if "421" not in found} == {
            *("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
        }


@pytest.mark.parametrize(
    ("value", "name"), [(b"[::1]:80", "[::1]"), (b"A:", "a"), (b"a:b", ""), (b"a:1:2", ""), (b"", "")]
)
def test_a_name_is_read_without_its_port(value: bytes, name: str) -> None:
    assert asked_name({"headers": [(b"host", value)]}) == name


def test_a_wildcard_stands_for_what_is_below_it_alone() -> None:
    hosts = frozenset({"*.a.org"})
    assert is_allowed("b.a.org", hosts)
    assert not any(is_allowed(name, hosts) for name in ("a.org", "ba.org", "", ".", "org", "*", "b.a.org."))


@pytest.mark.parametrize("fronts", [0, 1])
@pytest.mark.parametrize(("proxies", "counted"), [("", 1), ("192.0.2.1", 1), ("10.0.0.0/8,127.0.0.1", 2)])
def test_the_address_that_a_proxy_tells_counts_where_the_proxy_is_trusted(
    start_server: StartServer, proxies: str, counted: int, fronts: int
) -> None:
    server = start_server(fronts=fronts, trusted_proxies=proxies, drift_client_rate=1)
    with connect(server.url) as client:
        for address in ("192.0.2.7", "192.0.2.8"):
            client.headers["X-Forwarded-For"] = address
            assert read_prediction(predict(client, plain("black"))).decision == "reject"
        assert metric(client, "drift_uncounted") == 2 - counted


@pytest.mark.parametrize("fronts", [0, 1])
def test_a_port_of_its_own_has_what_operators_ask_for_and_is_drained_with_the_other(
    start_server: StartServer, fronts: int
) -> None:
    port = free_port()
    server = start_server(fronts=fronts, admin_port=port, allow_reload=True, drain_delay_ms=0)
    with connect(server.url) as public, connect(f"http://127.0.0.1:{port}") as operators:
        for method, path in (
            *(("GET", "/metrics"), ("GET", "/docs"), ("GET", "/redoc"), ("GET", "/openapi.json")),
            *(("GET", "/metrics%0A"), ("POST", "/v1/models/tiny/drift/reset"), ("POST", "/v1/models/tiny/load")),
        ):
            read_problem(public.request(method, path), 404, "not_found")
            assert operators.request(method, path).status_code == 200
        read_prediction(predict(public, PNG))
        assert public.get("/readyz").status_code == operators.get("/readyz").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port))


def test_a_port_for_operators_that_is_taken_is_the_operators_trouble() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SetupError, match="cannot listen on"):
        listen("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize(
    "head",
    [
        b"X-Big: " + b"a" * MAX_HEAD_BYTES,
        b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1000) for number in range(40))[:-2],
        b"\r\n".join([b"a: b"] * (MAX_HEADERS + 1)),
    ],
)
def test_headers_too_large_or_too_many_are_answered_431(client: httpx.Client, head: bytes) -> None:
    answer = exchange(client, b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"nosniff" in answer


def test_headers_below_the_limits_are_taken(client: httpx.Client) -> None:
    large = b"X-Big: " + b"a" * (MAX_HEAD_BYTES - 100)
    many = b"\r\n".join([b"a: b"] * (MAX_HEADERS - 2))
    for head in (large, many):
        answer = exchange(client, b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + head + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /" + b"a" * 100,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: ",
        b"POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: ",
    ],
)
def test_a_line_without_end_costs_its_connection(client: httpx.Client, endless: bytes) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=60) as connection:
        connection.sendall(endless)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(10_000):
                connection.sendall(b"a" * 1000)
    assert client.get("/healthz").status_code == 200


def test_a_large_body_in_small_pieces_is_no_large_head(client: httpx.Client) -> None:
    pieces = (PNG + b"\0" * 300_000)[:300_000]
    body = (pieces[start : start + 1000] for start in range(0, len(pieces), 1000))
    assert client.post("/v1/predict", content=body, headers={"Content-Type": "image/png"}).status_code in (200, 400)


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_may_load_what_it_names_and_nothing_else(client: httpx.Client, path: str) -> None:
    page = client.get(path)
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in policy["script-src"]
    scripts = re.findall(r"<script[^>]*>", page.text)
    assert len(policy["script-src"].split()) == len(scripts) > 0
    for source in re.findall(r'src="([^"]+)"', page.text):
        assert source in policy["script-src"].split()
    for tag in re.findall(r"<link[^>]*>", page.text):
        (target,) = re.findall(r'href="([^"]+)"', tag)
        assert target in (policy["style-src"] if "stylesheet" in tag else policy["img-src"]).split()
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["referrer-policy"] == "no-referrer"


def test_no_type_is_guessed_and_no_other_origin_is_let_in(client: httpx.Client) -> None:
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answers = [
        client.request(method, path, headers=origin)
        for method, path in (
            *(("OPTIONS", "/v1/predict"), ("GET", "/v1/model"), ("POST", "/v1/predict"), ("GET", "/docs")),
            *(("GET", "/metrics"), ("GET", "/unknown"), ("OPTIONS", "/v2/models/tiny/infer"), ("GET", "/openapi.json")),
        )
    ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert exchange(client, b"nonsense\r\n\r\n").count(b"nosniff") == 1


def test_pages_can_be_turned_off(start_server: StartServer) -> None:
    with connect(start_server(docs=False).url) as client:
        for path in ("/docs", "/redoc", "/openapi.json"):
            read_problem(client.get(path), 404, "not_found")
        assert client.get("/metrics").status_code == 200


def test_half_of_a_tls_pair_ends_the_start_in_one_sentence(tmp_path: Path) -> None:
    environment = {"OODGATE_TLS_KEY": str(tmp_path / "key.pem")}
    ended = subprocess.run(
        [sys.executable, "-m", "oodgate.cli", "serve"], capture_output=True, text=True, env=environment
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("oodgate: HTTPS needs a certificate and its key")
