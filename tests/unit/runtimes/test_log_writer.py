"""The log of a run: segments that can be replayed alone, bounded retention, gaps that are recorded, a tail in memory."""

import threading

import msgspec
import pytest

from grainwise.control.controller import Controller
from grainwise.control.log import LOG_SCHEMA, Entry, Gap, Header, decode
from grainwise.control.replay import replay
from grainwise.domain.errors import ArtifactError, ConfigurationError
from grainwise.runtimes.log_writer import LogWriter, read_log
from worlds.apps import SHAPES
from worlds.control import World
from worlds.grains import legal_grains


def lived(requests=60):
    """Entries of a run, with changes of granularity on the way."""
    app = SHAPES["fan"](4)
    world = World(app)
    grains = legal_grains(app.graph)
    for value in range(requests):
        world.ask(value % 9)
        if value % 7 == 0:
            world.regranulate(grains[value % len(grains)])
        world.run_for(7000)
    world.drain()
    return world.log


LOG = lived()


class Gate:
    """Holds the writer's thread before it writes until it is opened."""

    def __init__(self, monkeypatch):
        self.is_open = threading.Event()
        self.is_reached = threading.Event()
        drain = LogWriter._drain

        def held(writer):
            self.is_reached.set()
            assert self.is_open.wait(20)
            drain(writer)

        monkeypatch.setattr(LogWriter, "_drain", held)


def write(folder, entries, **options):
    """Write entries, feeding a controller alongside whose snapshots open the segments."""
    controller = Controller()
    log = LogWriter(folder, **options)
    try:
        for entry in entries:
            controller.handle(entry.event, entry.now)
            log.append(entry.seq, entry.now, entry.event, entry.actions, controller)
    finally:
        log.close()
    return log


def segmented(folder, **options):
    """A log in many segments: the writer keeps up with every entry."""
    controller = Controller()
    log = LogWriter(folder, segment_bytes=2000, **options)
    for entry in LOG:
        controller.handle(entry.event, entry.now)
        log.append(entry.seq, entry.now, entry.event, entry.actions, controller)
        log.flush()
    log.close()
    return sorted(folder.glob("segment-*.log"))


def test_what_was_written_is_read_and_replays_identically(tmp_path):
    write(tmp_path, LOG, note="a test", seed=5)
    header, *entries = read_log(tmp_path)
    assert isinstance(header, Header)
    assert (header.segment, header.first_seq, header.seed, header.note, header.snapshot) == (0, 0, 5, "a test", b"")
    assert [entry.seq for entry in entries] == list(range(len(LOG)))
    report = replay(read_log(tmp_path))
    assert report.is_identical
    assert (report.entries, report.segments) == (len(LOG), 1)


def test_every_segment_replays_from_its_own_snapshot(tmp_path):
    segments = segmented(tmp_path)
    assert len(segments) > 3
    entries = 0
    for number, segment in enumerate(segments):
        header = read_log(segment)[0]
        assert header.segment == number
        assert bool(header.snapshot) == (number > 0)
        report = replay(read_log(segment))
        assert report.is_identical, report.divergence
        entries += report.entries
    assert entries == len(LOG)
    whole = replay(read_log(tmp_path))
    assert whole.is_identical
    assert (whole.entries, whole.segments) == (len(LOG), len(segments))


def test_a_log_from_its_third_segment_on_replays(tmp_path):
    first, second, *_ = segmented(tmp_path)
    first.unlink()
    second.unlink()
    assert replay(read_log(tmp_path)).is_identical


def test_a_writer_that_is_behind_begins_one_segment_and_not_one_for_each_entry(tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    controller = Controller()
    log = LogWriter(tmp_path, segment_bytes=1)
    assert gate.is_reached.wait(20)
    log._wanted_segment = 1
    for entry in LOG:
        controller.handle(entry.event, entry.now)
        log.append(entry.seq, entry.now, entry.event, entry.actions, controller)
    gate.is_open.set()
    log.close()
    assert len(list(tmp_path.glob("segment-*.log"))) == 2
    assert replay(read_log(tmp_path)).is_identical


def test_the_oldest_segments_are_deleted_and_what_is_left_replays(tmp_path):
    segments = segmented(tmp_path, retained_bytes=12_000)
    assert segments[0].name != "segment-00000.log"
    assert sum(segment.stat().st_size for segment in segments[:-1]) <= 12_000
    report = replay(read_log(tmp_path))
    assert report.is_identical
    assert 0 < report.entries < len(LOG)


def test_a_full_buffer_makes_a_gap_that_is_recorded_and_that_replay_refuses(tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    controller = Controller()
    log = LogWriter(tmp_path, buffer_entries=6)
    assert gate.is_reached.wait(20)
    for number, entry in enumerate(LOG):
        controller.handle(entry.event, entry.now)
        log.append(entry.seq, entry.now, entry.event, entry.actions, controller)
        if number == 20:
            gate.is_open.set()
        if number >= 20:
            log.flush()
    log.close()
    records = read_log(tmp_path)
    (gap,) = (record for record in records if isinstance(record, Gap))
    assert (gap.first_seq, gap.last_seq) == (5, 21)
    kept = [record.seq for record in records if isinstance(record, Entry)]
    assert kept == [*range(5), *range(22, len(LOG))]
    with pytest.raises(ArtifactError, match="entries 5 to 21 of the log are missing"):
        replay(records)
    after = replay(read_log(tmp_path / "segment-00001.log"))
    assert after.is_identical
    assert after.entries == len(LOG) - 22


def test_a_gap_at_the_end_is_recorded_too(tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    log = LogWriter(tmp_path, buffer_entries=4)
    assert gate.is_reached.wait(20)
    for entry in LOG[:10]:
        log.append(entry.seq, entry.now, entry.event, entry.actions, Controller())
    gate.is_open.set()
    log.close()
    assert read_log(tmp_path)[-1] == Gap(3, 9)


def test_a_missing_segment_is_a_gap(tmp_path):
    _, second, *_ = segmented(tmp_path)
    lost = [record for record in read_log(second) if isinstance(record, Entry)]
    second.unlink()
    with pytest.raises(ArtifactError, match=f"entries {lost[0].seq} to {lost[-1].seq} of the log are missing"):
        replay(read_log(tmp_path))


def test_a_segment_that_was_cut_off_before_another_is_a_gap(tmp_path):
    first, *_ = segmented(tmp_path)
    first.write_bytes(first.read_bytes()[:-3])
    with pytest.raises(ArtifactError, match="are missing"):
        replay(read_log(tmp_path))


def test_a_last_frame_that_was_cut_off_ends_the_log(tmp_path):
    write(tmp_path, LOG)
    segment = tmp_path / "segment-00000.log"
    segment.write_bytes(segment.read_bytes()[:-3])
    report = replay(read_log(tmp_path))
    assert report.is_identical
    assert report.entries == len(LOG) - 1


def test_the_tail_is_what_came_last(tmp_path):
    log = write(tmp_path, LOG, tail_entries=50)
    assert [entry.seq for entry in log.tail(3)] == [len(LOG) - 3, len(LOG) - 2, len(LOG) - 1]
    assert len(log.tail(1000)) == 50
    assert log.tail(0) == []


def test_a_folder_with_a_log_is_refused(tmp_path):
    write(tmp_path, LOG[:1])
    with pytest.raises(ArtifactError, match="already holds a log"):
        LogWriter(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        LogWriter(tmp_path / "file" / "log")


def test_where_the_disk_refuses_the_log_ends_and_the_run_goes_on(tmp_path, caplog):
    log = LogWriter(tmp_path)
    log.flush()
    log._file.close()
    log._file = open("/dev/full", "wb", buffering=0)  # noqa: PTH123, SIM115
    for entry in LOG[:20]:
        log.append(entry.seq, entry.now, entry.event, entry.actions, Controller())
    log.flush()
    log.flush()
    log.close()
    assert "cannot be written any more" in caplog.text
    assert len(log.tail(100)) == 20


def test_what_is_no_log_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="there is no log"):
        read_log(tmp_path)
    with pytest.raises(ArtifactError, match="there is no log"):
        read_log(tmp_path / "nothing")
    (tmp_path / "segment-00000.log").write_bytes(b"")
    with pytest.raises(ArtifactError, match="is empty"):
        read_log(tmp_path)
    (tmp_path / "segment-00000.log").write_bytes(b"\x00\x00\x00\x04abcd")
    with pytest.raises(ArtifactError, match="malformed"):
        read_log(tmp_path)


def test_closing_twice_is_closing_once(tmp_path):
    log = write(tmp_path, LOG[:3])
    log.close()
    assert len(list(decode((tmp_path / "segment-00000.log").read_bytes()))) == 4


def test_every_header_carries_the_digests_and_a_replay_does_not_read_them(tmp_path):
    digests = {"app": "a1", "plan": "p2"}
    segments = segmented(tmp_path, digests=digests)
    assert len(segments) > 1
    headers = [record for record in read_log(tmp_path) if isinstance(record, Header)]
    assert [header.digests for header in headers] == [digests] * len(segments)
    assert replay(read_log(tmp_path)).is_identical


def test_a_header_of_before_there_were_digests_is_read():
    old = {"type": "header", "schema": LOG_SCHEMA, "code_version": "0", "segment": 0, "first_seq": 0, "seed": 0}
    body = b"H" + msgspec.msgpack.encode(old)
    (header,) = decode(len(body).to_bytes(4, "big") + body)
    assert isinstance(header, Header)
    assert header.digests == {}


def test_entries_that_would_take_too_much_memory_while_they_wait_are_a_gap(tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    log = LogWriter(tmp_path, buffer_bytes=6_000)
    controller = Controller()
    assert gate.is_reached.wait(20)
    for entry in LOG:
        controller.handle(entry.event, entry.now)
        log.append(entry.seq, entry.now, entry.event, entry.actions, controller)
    assert 5 < len(log._buffer) < len(LOG)
    gate.is_open.set()
    log.close()
    assert log._bytes_put == log._bytes_taken
    records = read_log(tmp_path)
    assert isinstance(records[-1], Gap)
    assert records[-1].last_seq == LOG[-1].seq
