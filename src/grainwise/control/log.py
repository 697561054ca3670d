"""The log: (seq, event, now, actions), opened by a header or by a snapshot of the controller.

A log is a sequence of frames, each a 4-byte big-endian length and a MessagePack record. It holds no payload bytes.
"""

import struct
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from grainwise.control.actions import Action
from grainwise.control.events import Event
from grainwise.domain.errors import ArtifactError
from grainwise.domain.time import Instant

LOG_SCHEMA = 3


class Header(Struct, frozen=True, tag="header"):
    """What a segment starts from. ``snapshot`` is empty for a fresh controller; ``first_seq`` is the next entry's.

    ``digests`` identify what the run was made of (app, profile, plan, configuration, predictor), by name. A replay does not
    read them: everything that the controller knows is in its events.
    """

    schema: int
    code_version: str
    segment: int
    first_seq: int
    seed: int
    note: str = ""
    snapshot: bytes = b""
    digests: dict[str, str] = {}


class Entry(Struct, frozen=True, tag="entry", array_like=True):
    """One event, the instant at which it was handled, and what the controller asked for."""

    seq: int
    now: Instant
    event: Event
    actions: list[Action]


class Gap(Struct, frozen=True, tag="gap", array_like=True):
    """Entries ``first_seq`` to ``last_seq`` are missing because the writer could not keep up."""

    first_seq: int
    last_seq: int


Record = Header | Entry | Gap

_encoder = msgspec.msgpack.Encoder()
_headers = msgspec.msgpack.Decoder(Header)
_entries = msgspec.msgpack.Decoder(Entry | Gap)
_HEADER, _OTHER = b"H", b"E"
_prefix = struct.Struct(">Ic").pack


def encode(record: Record) -> bytes:
    """One frame."""
    body = _encoder.encode(record)
    return _prefix(len(body) + 1, _HEADER if type(record) is Header else _OTHER) + body


def encode_actions(actions: list[Action]) -> bytes:
    """The bytes by which a replay is compared."""
    return _encoder.encode(actions)


def decode(data: bytes, name: str = "log") -> Iterator[Record]:
    """The records of a log or of one segment of it.

    A last frame that was cut off (the writer was killed) ends the log.

    Raises:
        ArtifactError: a frame is malformed or the schema is another one.
    """
    at = 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 4 + length]
        if len(body) < length:
            return
        try:
            record = _headers.decode(body[1:]) if body[:1] == _HEADER else _entries.decode(body[1:])
        except msgspec.MsgspecError as error:
            raise ArtifactError(f"{name}: the frame at byte {at} is malformed: {error}") from error
        if isinstance(record, Header) and record.schema != LOG_SCHEMA:
            raise ArtifactError(
                f"{name}: field schema is {record.schema}, this version reads {LOG_SCHEMA}; use the version that wrote it"
            )
        yield record
        at += 4 + length
