"""The quota of each client."""

from oodgate.observability.clients import ClientQuota


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_so_many_at_once_and_so_many_a_minute() -> None:
    clock = Clock()
    quota = ClientQuota(30, clock=clock)
    assert [quota.take("one") for _ in range(32)] == [True] * 30 + [False] * 2
    clock.now = 2.0
    assert [quota.take("one") for _ in range(2)] == [True, False]
    clock.now = 1e6
    assert [quota.take("one") for _ in range(31)] == [True] * 30 + [False]


def test_refused_images_do_not_put_the_next_one_off() -> None:
    clock, counted = Clock(), 0
    quota = ClientQuota(60, clock=clock)
    for tick in range(6001):
        clock.now = tick / 10
        counted += quota.take("one")
    assert counted in (659, 660)  # 60 at once and one a second


def test_clients_have_a_quota_each() -> None:
    quota = ClientQuota(1, clock=Clock())
    assert [quota.take(client) for client in ("one", "one", "two", "two")] == [True, False, True, False]


def test_the_client_not_seen_for_the_longest_time_is_forgotten() -> None:
    quota = ClientQuota(2, clients=2, clock=Clock())
    for client in ("one", "two", "one", "three"):
        assert quota.take(client)
    assert len(quota) == 2
    assert not quota.take("one")
    assert quota.take("two") and quota.take("two")


def test_memory_does_not_grow_with_the_clients() -> None:
    quota = ClientQuota(5, clients=100, clock=Clock())
    assert all(quota.take(str(number)) for number in range(10_000))
    assert len(quota) == 100
