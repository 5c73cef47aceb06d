"""A short run of schemathesis; `schema.py` has the long one."""

from pathlib import Path

from schema import judge

from contract import serving

SECONDS = 15


def test_answers_are_what_the_openapi_document_says(bundle_folder: Path, tmp_path: Path) -> None:
    with serving(bundle_folder, tmp_path) as client:
        findings = judge(str(client.base_url).rstrip("/"), SECONDS, examples=3, seed=0, folder=tmp_path)
    assert findings.held, f"{findings.failures}\n{findings.report}"
