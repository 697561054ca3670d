"""What the fleet remembers of ready instances is what counting them anew says, also after a snapshot."""

from grainwise.control.controller import Controller
from worlds.apps import SHAPES
from worlds.control import World
from worlds.grains import legal_grains


def counted(controller: Controller, node: str) -> tuple[list[int], float]:
    """Ready instances by stages, and spare cores of a node, from the state alone."""
    (app,) = controller.state.apps.values()
    compiled = controller._core.compiled(app, app.plan_id)
    ready = [each for each in controller.state.instances.values() if each.phase == "ready"]
    masks = range(1, app.deployed.app.graph.all_mask + 1)
    spare = sum(compiled.share_of(each.stages) - each.cores for each in ready if each.node == node)
    return [sum(1 for each in ready if each.stages & mask == mask) for mask in masks], spare


def remembered(controller: Controller, node: str) -> tuple[list[int], float]:
    """The same as a dispatch sees it."""
    (app,) = controller.state.apps.values()
    fleet = controller._fleet
    masks = range(1, app.deployed.app.graph.all_mask + 1)
    return [fleet.serving(app, mask) for mask in masks], fleet.spare_cores(
        app, controller._core.compiled(app, app.plan_id), node
    )


def test_ready_instances_are_counted_right_while_they_work_and_after_a_restart():
    app = SHAPES["fan"](4)
    world = World(app)
    grains = legal_grains(app.graph)
    seen: set[tuple[float, ...]] = set()
    for value in range(40):
        world.ask(value % 9)
        if value % 7 == 0:
            world.regranulate(grains[value % len(grains)])
        world.run_for(300_000 if value % 5 == 4 else 3000)
        for node in world.controller.state.nodes:
            serving, spare = counted(world.controller, node)
            found = remembered(world.controller, node)
            assert found[0] == serving
            assert abs(found[1] - spare) < 1e-9
            assert remembered(Controller.restore(world.controller.snapshot()), node) == found
            seen.add((*serving, round(spare, 6)))
    assert len(seen) > 1
