"""Where the time went, from two pages of metrics."""

import pytest

from oodgate.bench.stages import between, read_totals
from oodgate.observability.metrics import STAGES

PAGE = """\
# TYPE oodgate_stage_duration_seconds histogram
oodgate_stage_duration_seconds_bucket{{le="+Inf",stage="decode"}} {decoded}
oodgate_stage_duration_seconds_count{{stage="decode"}} {decoded}
oodgate_stage_duration_seconds_sum{{stage="decode"}} {decode_s}
# TYPE oodgate_batch_size histogram
oodgate_batch_size_count{{model="a",version="1"}} {batches}
oodgate_batch_size_sum{{model="a",version="1"}} {images}
oodgate_batch_size_count{{model="b",version="1"}} 1
oodgate_batch_size_sum{{model="b",version="1"}} 1
"""


def test_means_are_of_what_came_between_the_scrapes() -> None:
    before = read_totals(PAGE.format(decoded=10, decode_s=5.0, batches=4, images=4))
    after = read_totals(PAGE.format(decoded=30, decode_s=5.1, batches=9, images=24))
    inside = between(before, after)
    assert inside.stages_ms["decode"] == pytest.approx(5.0)
    assert inside.batch == pytest.approx(4.0)


def test_a_stage_that_nothing_passed_has_no_mean() -> None:
    totals = read_totals(PAGE.format(decoded=10, decode_s=5.0, batches=4, images=4))
    inside = between(totals, totals)
    assert inside.batch is None
    assert inside.stages_ms == dict.fromkeys(STAGES)


def test_a_page_that_cannot_be_read_counts_as_empty() -> None:
    after = read_totals(PAGE.format(decoded=10, decode_s=5.0, batches=4, images=4))
    assert between(read_totals(""), after).stages_ms["decode"] == pytest.approx(500.0)
