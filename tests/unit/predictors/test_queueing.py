"""Waiting against the textbook."""

import math

import pytest

from grainwise.predictors.queueing import NO_WAIT, Waiting, erlang_c, waiting


def wait(servers: int, load: float, *, arrival_scv: float = 1.0, service_scv: float = 1.0, run_us: float = 1e15) -> Waiting:
    return waiting(
        servers=servers,
        service_us=1000.0,
        busy_fraction=load,
        saturation_fraction=load,
        arrival_scv=arrival_scv,
        service_scv=service_scv,
        run_us=run_us,
    )


@pytest.mark.parametrize(
    ("servers", "offered", "probability"),
    [(1, 0.5, 0.5), (1, 0.9, 0.9), (2, 1.0, 1 / 3), (3, 2.0, 4 / 9), (5, 4.0, 0.5541132), (10, 8.0, 0.4091801), (4, 0.0, 0.0)],
)
def test_the_probability_of_waiting_is_erlangs(servers: int, offered: float, probability: float) -> None:
    assert erlang_c(servers, offered) == pytest.approx(probability, rel=1e-5)


def test_everyone_waits_at_saturation() -> None:
    assert erlang_c(3, 3.0) == erlang_c(3, 7.0) == 1.0


@pytest.mark.parametrize("load", [0.1, 0.5, 0.8, 0.95])
def test_one_server_gives_the_wait_of_m_m_1(load: float) -> None:
    assert wait(1, load).mean_us == pytest.approx(1000 * load / (1 - load))


@pytest.mark.parametrize(("servers", "load"), [(2, 0.5), (3, 2 / 3), (5, 0.8)])
def test_several_servers_give_the_wait_of_m_m_c(servers: int, load: float) -> None:
    expected = erlang_c(servers, servers * load) * 1000 / (servers * (1 - load))
    assert wait(servers, load).mean_us == pytest.approx(expected)


def test_constant_service_halves_the_wait() -> None:
    assert wait(1, 0.8, service_scv=0.0).mean_us == pytest.approx(wait(1, 0.8).mean_us / 2)


def test_nothing_waits_where_nothing_varies() -> None:
    assert wait(1, 0.8, arrival_scv=0.0, service_scv=0.0).mean_us == 0.0


def test_the_quantiles_of_m_m_1_are_exact() -> None:
    found = wait(1, 0.8)
    for level in (0.5, 0.9, 0.99):
        assert found.quantile_us(level) == pytest.approx(1000 * math.log(0.8 / (1 - level)) / 0.2)
    assert found.quantile_us(0.1) == 0.0
    assert NO_WAIT.quantile_us(0.99) == 0.0


def test_a_finite_run_bounds_the_wait_near_saturation() -> None:
    stationary, bounded = wait(1, 0.9999).mean_us, wait(1, 0.9999, run_us=60e6).mean_us
    assert bounded < stationary / 20


def test_an_overloaded_queue_grows_with_the_run() -> None:
    found = wait(1, 1.5, run_us=60e6)
    assert found.is_growing
    assert found.mean_us > 15e6
    assert found.quantile_us(0.5) == pytest.approx(found.mean_us)


def test_waiting_rises_with_load_across_saturation() -> None:
    waits = [wait(2, load / 100, run_us=60e6).mean_us for load in range(5, 150, 5)]
    assert waits == sorted(waits)


def test_larger_batches_wait_less_than_single_items_at_the_same_work() -> None:
    single = waiting(servers=1, service_us=1000, busy_fraction=0.9, saturation_fraction=0.9, arrival_scv=1, service_scv=0)
    batched = waiting(servers=1, service_us=1000, busy_fraction=0.9, saturation_fraction=0.4, arrival_scv=1, service_scv=0)
    assert batched.mean_us < single.mean_us
