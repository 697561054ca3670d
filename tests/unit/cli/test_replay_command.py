"""``grainwise replay``: the same actions, or where they differ; gaps are refused, an end that was cut off is not."""

import msgspec
import pytest
from command_line import grainwise

from grainwise.control.actions import Invoke, StartInstance
from grainwise.control.controller import Controller
from grainwise.control.events import RequestArrived
from grainwise.control.log import Entry, Gap, encode
from grainwise.runtimes.log_writer import LogWriter, read_log
from worlds.apps import SHAPES
from worlds.control import World
from worlds.grains import legal_grains


@pytest.fixture
def log(tmp_path):
    app = SHAPES["fan"](4)
    world = World(app)
    for value in range(20):
        world.ask(value % 9)
        world.run_for(7000)
    world.regranulate(legal_grains(app.graph)[-1])
    world.drain()
    folder = tmp_path / "log"
    writer = LogWriter(folder, note="a test")
    for entry in world.log:
        writer.append(entry.seq, entry.now, entry.event, entry.actions, Controller())
    writer.close()
    return folder


def rewrite(folder, change):
    """Write the log anew with each record as ``change`` gives it."""
    records = [change(record) for record in read_log(folder)]
    (folder / "segment-00000.log").write_bytes(b"".join(encode(record) for record in records if record is not None))


def count(folder):
    return sum(isinstance(record, Entry) for record in read_log(folder))


def test_a_log_replays_identically(log):
    said = grainwise("replay", log)
    assert said.code == 0
    assert said.words.startswith("replayed 20 requests for fan in ")
    assert said.words.endswith(f"{count(log)} entries in 1 segments: identical actions")
    as_json = grainwise("replay", log, "--json")
    assert as_json.code == 0
    assert as_json.json["entries"] == count(log)
    assert (as_json.json["segments"], as_json.json["divergence"], as_json.json["apps"]) == (1, None, ["fan"])


def test_one_segment_of_it_does_too(log):
    assert grainwise("replay", log / "segment-00000.log").code == 0


def test_a_changed_action_is_found_where_it_is(log):
    entries = [record for record in read_log(log) if isinstance(record, Entry)]
    at = next(entry.seq for entry in entries if any(isinstance(action, Invoke) for action in entry.actions))

    def tamper(record):
        if not isinstance(record, Entry) or record.seq != at:
            return record
        actions = [
            msgspec.structs.replace(action, limit_us=1) if isinstance(action, Invoke) else action for action in record.actions
        ]
        return msgspec.structs.replace(record, actions=actions)

    rewrite(log, tamper)
    said = grainwise("replay", log)
    assert said.code == 1
    assert f"entry {at} differs" in said.words
    assert ".limit_us: logged 1 replayed " in said.words
    different = grainwise("replay", log, "--json").json["divergence"]
    assert different["seq"] == at
    assert [each["place"].split(".")[1] for each in different["differences"]] == ["limit_us"]


def test_a_removed_event_is_found_at_what_followed_from_it(log):
    entries = [record for record in read_log(log) if isinstance(record, Entry)]
    at = next(entry.seq for entry in entries if isinstance(entry.event, RequestArrived))

    def forget(record):
        if isinstance(record, Entry) and record.seq == at:
            return msgspec.structs.replace(record, actions=[])
        return record

    rewrite(log, forget)
    said = grainwise("replay", log)
    assert said.code == 1
    assert f"entry {at} differs" in said.words


def test_a_changed_event_is_found(log):
    def tamper(record):
        if isinstance(record, Entry) and any(isinstance(action, StartInstance) for action in record.actions):
            return msgspec.structs.replace(record, now=record.now + 1)
        return record

    rewrite(log, tamper)
    assert grainwise("replay", log).code == 1


def test_a_gap_is_refused(log):
    rewrite(log, lambda record: Gap(3, 4) if isinstance(record, Entry) and record.seq == 3 else record)
    said = grainwise("replay", log)
    assert said.code == 4
    assert "entries 3 to 4" in said.err


def test_a_last_frame_that_was_cut_off_is_no_error(log):
    whole = count(log)
    segment = log / "segment-00000.log"
    segment.write_bytes(segment.read_bytes()[:-5])
    said = grainwise("replay", log, "--json")
    assert said.code == 0
    assert said.json["entries"] == whole - 1


def test_what_is_no_log_is_refused(log, tmp_path):
    assert grainwise("replay", tmp_path / "nothing").code == 4
    (tmp_path / "empty").mkdir()
    assert grainwise("replay", tmp_path / "empty").code == 4
    segment = log / "segment-00000.log"
    segment.write_bytes(b"")
    assert grainwise("replay", log).code == 4
    segment.write_bytes(b"\0\0\0\5Ehello")
    said = grainwise("replay", log)
    assert said.code == 4
    assert "at byte 0" in said.err


def test_a_log_without_its_beginning_is_refused(log):
    rewrite(log, lambda record: record if isinstance(record, Entry) else None)
    said = grainwise("replay", log)
    assert said.code == 4
    assert "header" in said.err
