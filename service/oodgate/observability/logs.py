"""Structured logs: JSON lines, or text on a terminal; uvicorn's and the warnings' records take the same form.

Tracebacks come without local variables: those of a request hold the client's image and headers.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import IO, Any, Literal, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, Processor

_BUFFER_BYTES = 2**20  # more than the lines of one round, so that none is torn


def configure_logs(log_format: Literal["auto", "json", "console"], level: str) -> None:
    """Send every log record of the process to standard error in one format."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # The service's own records do not pass through the standard library, which costs as much as a request does.
    structlog.configure(
        processors=[*shared, *(_text() if console else _lines(orjson.dumps))],
        logger_factory=(structlog.WriteLoggerFactory(cast(TextIO, _standard_error("w"))) if console else LineLogger),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    _configure_others([*shared], _text() if console else _lines(_to_text), level)


def request_log() -> Callable[..., None]:
    """What writes the line of a request that was answered, from its facts by name, once logs are configured."""
    logger = structlog.stdlib.get_logger("oodgate.access")
    if not logger.is_enabled_for(logging.INFO):
        return lambda **facts: None
    if structlog.get_config()["logger_factory"] is LineLogger:
        return partial(_write_request, LineLogger())
    return partial(logger.info, "request")


def _write_request(lines: "LineLogger", **facts: object) -> None:
    # As structlog has it, whose steps would cost a request as much as being read does.
    now = datetime.now(UTC)
    lines.msg(orjson.dumps({**facts, "event": "request", "level": "info", "timestamp": now}, option=orjson.OPT_UTC_Z))


class Lossy:
    """A file that loses what cannot be written: a full disk must cost no answer."""

    def __init__(self, file: IO[Any]) -> None:
        self._file = file

    def write(self, text: Any) -> None:
        """Write what can be written."""
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        """The same, of what waits."""
        with suppress(OSError):
            self._file.flush()


class LineLogger:
    """Writes lines to standard error: those of the event loop together at the end of its round, others at once.

    A system call for each line would cost a request more than all of its metrics.
    """

    def __init__(self, *_: Any) -> None:
        self._file = _standard_error("wb", _BUFFER_BYTES)
        self._flushed_by: asyncio.AbstractEventLoop | None = None

    def msg(self, line: bytes) -> None:
        """Write one line."""
        self._file.write(line + b"\n")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._file.flush()
            return
        if self._flushed_by is not loop:
            self._flushed_by = loop
            loop.call_soon(self._flush)

    debug = info = warning = error = critical = msg

    def _flush(self) -> None:
        self._flushed_by = None
        self._file.flush()


def _standard_error(mode: str, buffering: int = -1) -> Lossy:
    # Loggers keep their file for ever, and who calls a command from Python may have replaced and closed sys.stderr.
    return Lossy(open(2, mode, buffering, closefd=False))


def _text() -> list[Processor]:
    return [_harmless, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]


def _harmless(logger: Any, name: str, facts: EventDict) -> EventDict:
    """Facts that a terminal shows and does not obey, whatever a client put into its path."""
    return {
        key: value.encode("unicode_escape").decode() if isinstance(value, str) and not value.isprintable() else value
        for key, value in facts.items()
    }


def _lines(dump: Any) -> list[Processor]:
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [structlog.processors.ExceptionRenderer(tracebacks), structlog.processors.JSONRenderer(dump)]


def _to_text(record: Any, **options: Any) -> str:
    return orjson.dumps(record, **options).decode()


def _configure_others(shared: list[Processor], renderer: list[Processor], level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.root.handlers = [handler]
    logging.root.setLevel(level.upper())
    logging.captureWarnings(True)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True  # the service writes its own access line, with the request id
