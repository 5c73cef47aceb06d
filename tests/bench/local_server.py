"""A small HTTP server in threads whose answers and delays are known."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer

Answer = Callable[[int], tuple[bytes, float]]
"""Number of the request, from 0 -> the bytes to answer, and after how many seconds."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
BUSY = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class LocalServer(ThreadingTCPServer):
    """What it was sent, and where it listens."""

    request_queue_size = 64
    allow_reuse_address = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.bodies: list[bytes] = []
        self.connections = 0
        self.stopping = threading.Event()
        self.port: int = self.server_address[1]
        self._lock = threading.Lock()

    def take(self, body: bytes) -> tuple[bytes, float]:
        with self._lock:
            self.bodies.append(body)
            return self.answer(len(self.bodies) - 1)

    def connected(self) -> None:
        with self._lock:
            self.connections += 1


class Handler(StreamRequestHandler):
    """One connection."""

    server: LocalServer

    def handle(self) -> None:
        self.server.connected()
        try:
            while self._answer():
                pass
        except ConnectionError:
            pass

    def _answer(self) -> bool:
        length = None
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        if length is None:
            return False  # the client has left
        answer, delay = self.server.take(self.rfile.read(length))
        self.server.stopping.wait(delay)
        self.wfile.write(answer)
        return bool(answer) and b"Connection: close" not in answer


@contextmanager
def local_server(answer: Answer = lambda number: (OK, 0.0)) -> Iterator[LocalServer]:
    """The server, until the end of the block."""
    with LocalServer(answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            server.shutdown()
            thread.join()
