import contextlib
import json
import socket

import aiohttp
import pytest
from gateway_doubles import get, mixed_app, run, serving, text_app

from grainwise.domain.errors import ConfigurationError
from grainwise.gateway.admin import AdminListen, read_token
from grainwise.gateway.errors import FieldError
from grainwise.gateway.grains import parse_grain

TOKEN = "0123456789abcdef0123"


class Backend:
    def __init__(self):
        self.asked = []
        self.is_draining = False

    def status(self):
        return {"in_flight": 0}

    def plan(self, app):
        return {"app": app, "grain": "upper | join"}

    def plan_table(self, app):
        return None

    def profile(self, app):
        return {"app": app}

    def log_tail(self, entries):
        return [{"seq": number} for number in range(entries)]

    def request_plan(self, app, grain):
        self.asked.append((app, grain))

    def drain(self):
        self.is_draining = True


@contextlib.asynccontextmanager
async def administered(apps=None, **listen):
    backend = Backend()
    apps = [mixed_app()] if apps is None else apps
    async with serving(apps, admin_backend=backend, admin_listen=AdminListen(**listen)) as served:
        yield served, backend


async def call(url, path, method="POST", headers=None, **more):
    async with aiohttp.ClientSession() as session, session.request(method, url + path, headers=headers, **more) as response:
        return response.status, await response.json()


def test_what_is_shown():
    async def main():
        async with administered() as (served, _):
            url = served.addresses.admin
            assert (await get(url, "/status"))[2] == {"in_flight": 0}
            assert (await get(url, "/plan"))[2] == {"app": "mixed", "grain": "upper | join"}
            assert (await get(url, "/profile?app=mixed"))[2] == {"app": "mixed"}
            status, _, answer = await get(url, "/plan/table")
            assert (status, answer["code"]) == (404, "unknown_path")
            status, headers, body = await get(url, "/log?tail=3")
            assert headers["Content-Type"].startswith("application/x-ndjson")
            assert [json.loads(line)["seq"] for line in body.splitlines()] == [0, 1, 2]

    run(main())


@pytest.mark.parametrize(
    ("wish", "grain"),
    [
        ({"grain": "fused"}, (("upper", "join"),)),
        ({"grain": "split"}, (("upper",), ("join",))),
        ({"grain": "join | upper"}, (("upper",), ("join",))),
        ({"grain": "join+upper"}, (("upper", "join"),)),
        ({"grain": None}, None),
        ({}, None),
    ],
)
def test_a_grain_is_asked_for(wish, grain):
    async def main():
        async with administered() as (served, backend):
            status, answer = await call(served.addresses.admin, "/regranulate", json=wish)
            assert (status, answer["follow"]) == (202, "/plan?app=mixed")
            assert backend.asked == [("mixed", grain)]

    run(main())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"grain": "upper"}', "grain"),
        (b'{"grain": "upper | join | nothing"}', "grain"),
        (b'{"grain": "upper+upper | join"}', "grain"),
        (b'{"grain": 3}', "body"),
        (b'{"path": "/etc/passwd"}', "body"),
        (b"{", "body"),
        (b"[" * 60_000, "body"),
    ],
)
def test_a_wrong_wish_is_a_400_that_names_the_field(body, field):
    async def main():
        async with administered() as (served, backend):
            status, answer = await call(served.addresses.admin, "/regranulate", data=body)
            assert (status, answer["field"]) == (400, field)
            assert backend.asked == []

    run(main())


def test_with_several_apps_one_is_named():
    async def main():
        async with administered([mixed_app(), text_app()]) as (served, backend):
            url = served.addresses.admin
            status, answer = await call(url, "/regranulate", json={"grain": "fused"})
            assert (status, answer["field"]) == (400, "app")
            status, _ = await call(url, "/regranulate", json={"grain": "fused", "app": "words"})
            assert (status, backend.asked) == (202, [("words", (("split",),))])
            assert (await get(url, "/plan?app=none"))[0] == 404

    run(main())


def test_wrong_calls_are_refused():
    async def main():
        async with administered() as (served, _):
            url = served.addresses.admin
            for tail in ("0", "x", "-1", "1001", "10000", "99999999999999999999"):
                status, _, answer = await get(url, f"/log?tail={tail}")
                assert (status, answer["field"]) == (400, "tail")
                assert "1000" in answer["error"]
            assert (await get(url, "/log?tail=1000"))[0] == 200
            assert (await get(url, "/nothing"))[0] == 404
            assert (await get(url, "/drain"))[0] == 405
            assert (await call(url, "/regranulate", data=b"x" * 70_000))[0] == 413

    run(main())


def test_drain_is_asked_for():
    async def main():
        async with administered() as (served, backend):
            assert (await call(served.addresses.admin, "/drain"))[0] == 202
            assert backend.is_draining

    run(main())


def test_the_public_listener_has_no_admin():
    async def main():
        async with administered() as (served, _):
            for path in ("/plan", "/status", "/log", "/profile", "/plan/table"):
                assert (await get(served.url, path))[0] == 404
            for path in ("/regranulate", "/drain"):
                assert (await call(served.url, path))[0] == 404

    run(main())


def test_a_token_is_wanted_where_one_is_set():
    async def main():
        async with administered(token=TOKEN) as (served, backend):
            url = served.addresses.admin
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": TOKEN},
                {"Authorization": f"Basic {TOKEN}"},
            ):
                status, answer = await call(url, "/regranulate", json={}, headers=headers)
                assert (status, answer["code"]) == (401, "unauthorized")
            assert backend.asked == []
            assert (await call(url, "/regranulate", json={}, headers={"Authorization": f"Bearer {TOKEN}"}))[0] == 202

    run(main())


def test_a_web_page_may_not_call_it():
    async def main():
        async with administered() as (served, backend):
            url = served.addresses.admin
            for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Host": "evil.example:80"}):
                assert (await call(url, "/drain", headers=headers))[0] == 401
            assert not backend.is_draining

    run(main())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "some.host"])
def test_a_bind_that_others_reach_without_a_token_refuses_to_start(host):
    with pytest.raises(ConfigurationError, match="--admin-token-file"):
        AdminListen(host=host)
    AdminListen(host=host, token=TOKEN)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_no_token(host):
    AdminListen(host=host)


def test_a_unix_socket_serves_and_is_gone_afterwards(tmp_path):
    path = tmp_path / "admin.sock"

    async def main():
        async with administered(uds=str(path)) as (served, _):
            assert served.addresses.admin == str(path)
            connector = aiohttp.UnixConnector(str(path))
            async with aiohttp.ClientSession(connector=connector) as session, session.get("http://admin/status") as response:
                assert await response.json() == {"in_flight": 0}
            assert path.stat().st_mode & 0o777 == 0o600

    run(main())
    assert not path.exists()


def test_an_admin_address_that_is_taken_leaves_no_listener():
    async def main():
        with (
            contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken,
            pytest.raises(ConfigurationError, match="cannot listen"),
        ):
            async with administered(port=taken.getsockname()[1]):
                pass

    run(main())


def test_a_token_file_is_read_only_if_it_is_ours_alone(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    assert read_token(path) == TOKEN
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_token(path)
    path.chmod(0o600)
    path.write_text("")
    with pytest.raises(ConfigurationError, match="empty"):
        read_token(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_token(tmp_path / "none")
    with pytest.raises(ConfigurationError, match="16 characters"):
        AdminListen(token="short")


def test_groups_are_put_in_the_order_of_the_graph():
    spec = mixed_app()
    assert parse_grain(spec, " join|upper ") == (("upper",), ("join",))
    with pytest.raises(FieldError, match="missing: join"):
        parse_grain(spec, "upper")
