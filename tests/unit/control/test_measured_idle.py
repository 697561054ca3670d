"""What a burst of concurrency started is ended again, although nothing happens any more that would ask for a review."""

from grainwise.control.actions import StartInstance
from grainwise.domain.config import AppConfig
from grainwise.domain.time import SECOND
from worlds.apps import chain
from worlds.control import World


def test_an_idle_app_forgets_its_burst() -> None:
    app = chain(max_batch=1, slo_ms=50)
    config = AppConfig(replan_us=0, keep_alive_us=SECOND, policies="concurrency")
    world = World(app, config=config, max_batch=1, service_us=SECOND // 4)
    before = len(world.instances)
    for _ in range(5):
        for _ in range(10):
            world.ask(1)
        world.run_for(SECOND)
    assert len(world.seen(StartInstance)) > before
    world.drain()
    world.run_for(300 * SECOND)
    assert len(world.instances) == before
