"""The pages for people, /docs and /redoc, which may load and do just what they need."""

import re
from base64 import b64encode
from hashlib import sha256

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.responses import HTMLResponse, Response

_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_SCRIPTS = re.compile(r'<script[^>]* src="(https:[^"]+)"')
_STYLES = re.compile(r'<link[^>]*rel="stylesheet"[^>]*href="(https:[^"]+)"')
_ICONS = re.compile(r'<link[^>]*rel="shortcut icon"[^>]*href="(https:[^"]+)"')


def add_pages(app: FastAPI) -> None:
    """Serve the two pages on the app's OpenAPI document."""
    document = str(app.openapi_url)
    _add(app, "/docs", get_swagger_ui_html(openapi_url=document, title=app.title))
    _add(app, "/redoc", get_redoc_html(openapi_url=document, title=app.title, with_google_fonts=False))


def _add(app: FastAPI, path: str, page: HTMLResponse) -> None:
    headers = page_headers(bytes(page.body).decode())

    async def show(_: Request) -> Response:
        return HTMLResponse(page.body, headers=headers)

    app.add_route(path, show, include_in_schema=False)


def page_headers(html: str) -> dict[str, str]:
    """Headers that let a page load what its source names, ask this service, and be framed by nobody."""
    inline = [f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in _INLINE.findall(html)]
    policy = {
        "default-src": ["'none'"],
        "script-src": [*_SCRIPTS.findall(html), *inline],
        # Both programs write styles of their own into the page as they run.
        "style-src": [*_STYLES.findall(html), "'unsafe-inline'"],
        "img-src": [*_ICONS.findall(html), "data:"],
        "worker-src": ["blob:"],
        "connect-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {' '.join(sources)}" for name, sources in policy.items()),
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
    }
