import asyncio

import pytest
from gateway_doubles import Scripted, run, text_app

from grainwise.control.actions import Reject, Respond
from grainwise.control.events import RequestArrived, RequestCancelled
from grainwise.domain.because import Because
from grainwise.domain.values import Payload, Ref
from grainwise.gateway.door import Answer
from grainwise.gateway.errors import ClientGoneError, DrainingError, Failure
from grainwise.runtimes.local.edges import EdgeTypes
from grainwise.runtimes.local.store import LocalStore


def make() -> tuple[Scripted, LocalStore, tuple[Payload, ...]]:
    spec = text_app()
    store = LocalStore(EdgeTypes(spec), 1 << 20)
    script = Scripted([spec], store)
    stored = store.put("a b", spec.inputs[0])
    return script, store, (Payload((Ref(stored.handle, stored.nbytes, (3.0,)),)),)


def test_an_answer_holds_its_outputs_until_it_is_closed():
    async def main():
        script, store, inputs = make()
        answer = await script.door.ask(text_app(), inputs, deadline=5)
        assert isinstance(answer, Answer)
        assert answer.value(0) == ["a", "b"]
        assert script.events == [RequestArrived(1, "words", inputs, 5)]
        assert store.live_bytes > 0
        answer.close()
        answer.close()
        assert store.live_bytes == 0
        assert script.door.in_flight == 0

    run(main())


def test_requests_are_numbered_in_order_and_settled_once():
    async def main():
        script, store, inputs = make()
        script.on_arrival = lambda event: None
        spec = text_app()
        first, second = script.door.submit(spec, inputs), script.door.submit(spec, ())
        assert (first.request, second.request) == (1, 2)
        assert script.door.in_flight == 2
        script.door.reject(Reject(2, "queue_full", Because("full"), retry_after_us=2_500_000))
        script.door.reject(Reject(2, "deadline", Because("late")))
        failure = await second.future
        assert isinstance(failure, Failure)
        assert failure.status == 429
        assert failure.headers == ((b"retry-after", b"3"),)
        script.door.respond(Respond(1, ()))
        assert isinstance(await first.future, Answer)
        assert script.door.in_flight == 0
        store.release((inputs[0].refs[0].handle,))

    run(main())


def test_a_cancelled_request_is_posted_and_a_late_answer_is_released():
    async def main():
        script, store, inputs = make()
        script.on_arrival = lambda event: None
        ticket = script.door.submit(text_app(), ())
        script.door.cancel(ticket.request)
        script.door.cancel(ticket.request)
        with pytest.raises(ClientGoneError):
            await ticket.future
        assert [event for event in script.events if isinstance(event, RequestCancelled)] == [RequestCancelled(1)]
        script.door.respond(Respond(1, inputs))
        assert store.live_bytes == 0

    run(main())


def test_cancelling_whoever_asks_cancels_the_request():
    async def main():
        script, _, inputs = make()
        arrived = asyncio.Event()
        script.on_arrival = lambda event: arrived.set()
        asking = asyncio.create_task(script.door.ask(text_app(), inputs))
        await arrived.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert script.events[-1] == RequestCancelled(1)
        assert script.door.in_flight == 0

    run(main())


def test_outputs_that_share_a_handle_are_released_once():
    async def main():
        script, store, inputs = make()
        script.on_arrival = lambda event: script.door.respond(Respond(event.request, inputs + inputs))
        answer = await script.door.ask(text_app(), inputs)
        assert isinstance(answer, Answer)
        answer.close()
        assert store.live_bytes == 0

    run(main())


def test_a_draining_door_refuses_and_releases_and_then_is_drained():
    async def main():
        script, store, inputs = make()
        script.on_arrival = lambda event: None
        ticket = script.door.submit(text_app(), ())
        script.door.begin_drain()
        with pytest.raises(DrainingError):
            script.door.submit(text_app(), inputs)
        assert store.live_bytes == 0
        draining = asyncio.create_task(script.door.drained())
        await asyncio.sleep(0)
        assert not draining.done()
        script.door.respond(Respond(ticket.request, ()))
        await draining

    run(main())


def test_numbers_can_come_from_elsewhere():
    async def main():
        script, _, inputs = make()
        script.door.attach(script.post, lambda: 77)
        answer = await script.door.ask(text_app(), inputs)
        assert isinstance(answer, Answer)
        assert answer.request == 77
        answer.close()

    run(main())
