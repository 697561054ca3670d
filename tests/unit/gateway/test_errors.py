import json
from typing import get_args

import pytest

from grainwise.control.actions import Reject, RejectCode
from grainwise.domain import errors
from grainwise.domain.because import Because
from grainwise.gateway.errors import (
    STATUS_BY_REJECT,
    DrainingError,
    FieldError,
    MethodError,
    failure_of_error,
    failure_of_reject,
)
from grainwise.runtimes.payloads import ArenaFullError

STATUSES = {
    "queue_full": 429,
    "too_late": 429,
    "backpressure": 429,
    "deadline": 504,
    "stage_failed": 500,
    "stage_lost": 502,
    "no_capacity": 503,
    "unknown_app": 404,
}


@pytest.mark.parametrize("code", get_args(RejectCode))
def test_every_rejection_has_its_status_and_says_why(code):
    failure = failure_of_reject(Reject(7, code, Because("bounded queue", (("queued", 3),)), "detect", 1_200_000))
    body = json.loads(failure.encode())
    assert failure.status == STATUSES[code] == STATUS_BY_REJECT[code]
    assert body["code"] == code
    assert body["request"] == 7
    assert body["stage"] == "detect"
    assert "bounded queue: queued 3" in body["error"]
    retry = dict(failure.headers).get(b"retry-after")
    assert retry == (b"2" if failure.status in (429, 503) else None)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.InputError("x"), 400, "input"),
        (FieldError("inputs[0].shape", "x"), 400, "input"),
        (ArenaFullError("x"), 429, "backpressure"),
        (DrainingError("x"), 503, "draining"),
        (errors.CapacityError("x"), 503, "no_capacity"),
        (errors.InfeasibleError("x"), 409, "infeasible"),
        (MethodError("x", ("POST",)), 405, "method"),
        (errors.GrainwiseError("x"), 500, "internal"),
    ],
)
def test_every_error_has_its_status(error, status, code):
    failure = failure_of_error(error)
    assert (failure.status, failure.body.code) == (status, code)


@pytest.mark.parametrize(
    ("rule", "reason", "text"),
    [
        ("the stage declared", "not a picture: it is empty", "stage decode refused this request: not a picture: it is empty"),
        ("the stage raised", "ValueError: no such word", "stage decode raised ValueError: no such word"),
        ("the stage value", "expected str, got int", "stage decode broke its declaration: expected str, got int"),
    ],
)
def test_what_a_stage_said_reads_as_a_sentence(rule, reason, text):
    because = Because(rule, (("stage", "decode"), ("reason", reason)))
    body = json.loads(failure_of_reject(Reject(7, "stage_failed", because, "decode")).encode())
    assert body == {"error": text, "code": "stage_failed", "stage": "decode", "request": 7}


def test_an_unforeseen_error_says_nothing_about_the_inside():
    failure = failure_of_error(KeyError("secret"))
    assert failure.status == 500
    assert b"secret" not in failure.encode()


def test_a_field_error_carries_its_field():
    assert failure_of_error(FieldError("inputs[0].shape", "too long")).body.field == "inputs[0].shape"
