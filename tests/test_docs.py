import re

from conftest import ROOT
from oodgate.errors import RequestError
from oodgate.settings import Settings


def test_every_error_code_is_documented_with_its_status_and_no_other() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", (ROOT / "docs" / "http.md").read_text(), re.MULTILINE)
    kinds = [RequestError, *RequestError.__subclasses__()]
    assert sorted((int(status), code) for status, code in rows) == sorted((kind.status, kind.code) for kind in kinds)


def test_every_setting_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "operating.md").read_text()
    table = text.partition("## Settings")[2].partition("## Stopping")[0]
    assert set(re.findall(r"`OODGATE_(\w+)`", table)) == {name.upper() for name in Settings.model_fields}
