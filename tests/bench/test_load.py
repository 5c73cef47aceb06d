"""The load generator against a server whose answers are known."""

import numpy as np
import pytest
from local_server import BUSY, CHUNKED, LAST, OK, local_server

from oodgate.bench.connection import CLOSED, MALFORMED, TIMEOUT, UNREACHABLE, build_request
from oodgate.bench.load import Bounds, arrival_schedule, run_closed, run_open
from oodgate.bench.process import free_port
from oodgate.bench.users import Target, percentile_ms

A, B = (build_request("/x", body, {"Content-Type": "image/png"}) for body in (b"first", b"second"))


def test_a_request_has_its_length_its_headers_and_its_body() -> None:
    assert A == (b"POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Type: image/png\r\n\r\nfirst")


def test_a_closed_loop_sends_the_requests_in_turn_over_one_connection_for_each_client() -> None:
    with local_server() as server:
        load = run_closed(Target(server.port, [A, B]), 3, Bounds(60, max_requests=30))
    assert load.outcomes == {"200": 30}
    assert (load.completed, load.latencies.size, load.errors) == (30, 30, {})
    assert sorted(server.bodies) == [b"first"] * 15 + [b"second"] * 15
    assert server.connections == 3


def test_a_closed_loop_ends_after_its_time() -> None:
    with local_server(lambda number: (OK, 0.02)) as server:
        load = run_closed(Target(server.port, [A]), 2, Bounds(0.3))
    assert load.seconds == 0.3
    assert 0 < load.completed == load.latencies.size == load.outcomes["200"] <= len(server.bodies) <= 32
    assert load.requests_per_s == pytest.approx(load.completed / 0.3)


def test_a_closed_loop_that_settles_counts_from_when_every_client_was_answered() -> None:
    delays = {0: 0.5}  # the first client's first answer, while the other's go on
    with local_server(lambda number: (OK, delays.get(number, 0.02))) as server:
        load = run_closed(Target(server.port, [A]), 2, Bounds(0.2, settle_s=0.01))
    assert 0 < load.outcomes["200"] <= 20
    assert load.latencies.max() < 0.5
    assert len(server.bodies) > load.outcomes["200"] + 5


def test_a_closed_loop_settles_for_its_time_at_least() -> None:
    with local_server(lambda number: (OK, 0.02)) as server:
        load = run_closed(Target(server.port, [A]), 1, Bounds(0.1, settle_s=0.5))
    assert 0 < load.outcomes["200"] <= 5
    assert len(server.bodies) > load.outcomes["200"]


def test_errors_that_come_after_the_time_are_counted_and_good_answers_are_not() -> None:
    with local_server(lambda number: (BUSY if number else OK, 0.3)) as server:
        load = run_closed(Target(server.port, [A]), 2, Bounds(0.1))
    assert load.outcomes == {"429": 1}


def test_latencies_are_those_of_the_answers() -> None:
    with local_server(lambda number: (OK, 0.25 if number % 5 == 4 else 0.05)) as server:
        load = run_closed(Target(server.port, [A]), 1, Bounds(60, max_requests=10))
    assert load.latencies.min() >= 0.05
    assert (load.latencies >= 0.25).sum() >= 2
    assert (percentile_ms(load.latencies, 99) or 0) >= 250


def test_answers_in_chunks_are_understood() -> None:
    with local_server(lambda number: (CHUNKED, 0.0)) as server:
        load = run_closed(Target(server.port, [A]), 2, Bounds(60, max_requests=10))
    assert load.outcomes == {"200": 10}
    assert server.connections == 2


def test_a_connection_that_the_server_ends_is_opened_anew() -> None:
    with local_server(lambda number: (LAST, 0.0)) as server:
        load = run_closed(Target(server.port, [A]), 1, Bounds(60, max_requests=4))
    assert load.outcomes == {"200": 4}
    assert server.connections == 4


def test_statuses_and_failures_are_counted_apart_and_have_no_latency() -> None:
    answers = [OK, BUSY, b"", b"SMTP what\r\n\r\n", OK]
    with local_server(lambda number: (answers[number], 0.0)) as server:
        load = run_closed(Target(server.port, [A]), 1, Bounds(60, max_requests=5))
    assert load.outcomes == {"200": 2, "429": 1, CLOSED: 1, MALFORMED: 1}
    assert load.errors == {"429": 1, CLOSED: 1, MALFORMED: 1}
    assert (load.completed, load.latencies.size) == (2, 2)


def test_an_answer_that_takes_too_long_is_a_timeout_and_the_client_goes_on() -> None:
    with local_server(lambda number: (OK, 0.0 if number else 30.0)) as server:
        load = run_closed(Target(server.port, [A]), 1, Bounds(60, max_requests=3, timeout_s=1))
    assert load.outcomes == {TIMEOUT: 1, "200": 2}


def test_a_port_that_nobody_listens_on_is_an_outcome() -> None:
    load = run_closed(Target(free_port(), [A]), 2, Bounds(60, max_requests=4))
    assert load.outcomes == {UNREACHABLE: 4}
    assert load.requests_per_s == 0
    assert percentile_ms(load.latencies, 50) is None


def test_an_open_loop_sends_every_arrival() -> None:
    with local_server() as server:
        load = run_open(Target(server.port, [A]), np.linspace(0, 0.2, 40), 8, Bounds(0.5))
    assert load.outcomes == {"200": 40}
    assert load.requests_per_s == 80
    assert load.lateness.size <= 40
    assert (load.lateness >= 0).all()


def test_an_open_loop_counts_the_wait_for_a_free_connection_from_the_arrival() -> None:
    delay = 0.1
    with local_server(lambda number: (OK, delay)) as server:
        load = run_open(Target(server.port, [A]), np.zeros(4), 1, Bounds(1))
    assert (np.sort(load.latencies) >= delay * np.arange(1, 5)).all()


def test_an_open_loop_that_settles_counts_the_arrivals_after() -> None:
    arrivals = np.array([0.0, 0.05, 0.1, 0.35, 0.4])
    with local_server(lambda number: (OK, 0.0 if number else 0.3)) as server:
        load = run_open(Target(server.port, [A]), arrivals, 8, Bounds(0.25, settle_s=0.25))
    assert load.outcomes == {"200": 2}
    assert (load.requests_per_s, load.latencies.size) == (8, 2)
    assert load.lateness.size == 2
    assert len(server.bodies) == 5


def test_arrivals_are_those_of_a_poisson_process() -> None:
    rate, bounds = 500.0, Bounds(40)
    arrivals = arrival_schedule(rate, bounds)
    gaps = np.diff(arrivals)
    assert (gaps >= 0).all()
    assert 0 <= arrivals[0] < arrivals[-1] < bounds.duration_s
    assert len(arrivals) == pytest.approx(rate * bounds.duration_s, rel=0.05)
    assert gaps.mean() == pytest.approx(1 / rate, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    counts = np.histogram(arrivals, np.arange(0, 40.1, 0.1))[0]
    assert counts.var() == pytest.approx(counts.mean(), rel=0.25)


def test_arrivals_are_seeded_and_bounded_in_number() -> None:
    whole, again, other = (arrival_schedule(100, Bounds(2), seed) for seed in (1, 1, 2))
    assert np.array_equal(whole, again)
    assert not np.array_equal(whole[:50], other[:50])
    assert np.array_equal(arrival_schedule(100, Bounds(2, max_requests=7), 1), whole[:7])
    assert np.array_equal(arrival_schedule(100, Bounds(1.5, settle_s=0.5), 1), whole)


@pytest.mark.parametrize(("percent", "expected"), [(50, 50.0), (95, 95.0), (99, 99.0), (99.5, 100.0), (100, 100.0)])
def test_percentiles_are_values_that_were_measured(percent: float, expected: float) -> None:
    shuffled = np.random.default_rng(0).permutation(np.arange(1, 101)) / 1000
    assert percentile_ms(shuffled, percent) == pytest.approx(expected)
