"""``@app.samples``: what may be declared, and how what it returns is read."""

import pytest

from grainwise import App, Batch, Slo
from grainwise.domain.errors import DeclarationError


def app_with(inputs: int) -> App:
    app = App("sampled", slo=Slo(latency_ms=100))
    if inputs == 1:

        @app.stage()
        def double(numbers: Batch[int]) -> Batch[int]:
            return [2 * number for number in numbers]

        @app.flow
        def one(number: int) -> int:
            return double(number)

    else:

        @app.stage()
        def add(left: Batch[int], right: Batch[int]) -> Batch[int]:
            return [a + b for a, b in zip(left, right, strict=True)]

        @app.flow
        def two(left: int, right: int) -> int:
            return add(left, right)

    return app


def test_a_sample_is_the_input_or_a_tuple_of_inputs():
    app = app_with(1)
    assert app.samples(lambda: [1, 2])() == [1, 2]
    assert app.sample_values() == [(1,), (2,)]
    app = app_with(2)
    app.samples(lambda: [(1, 2), (3, 4)])
    assert app.sample_values() == [(1, 2), (3, 4)]


def test_samples_are_no_part_of_the_declaration():
    with_samples = app_with(1)
    with_samples.samples(lambda: [1])
    assert with_samples.spec(b"").digest == app_with(1).spec(b"").digest


def test_an_app_without_samples_says_which_lines_to_add():
    with pytest.raises(DeclarationError, match=r"has no samples. Add to its file:\n    @app.samples\n    def samples\(\):"):
        app_with(1).sample_values()


def test_a_function_that_needs_arguments_is_refused():
    with pytest.raises(DeclarationError, match=r"needs 'count'; it is called without arguments"):
        app_with(1).samples(lambda count: [count])


def test_what_is_no_function_is_refused():
    with pytest.raises(DeclarationError, match=r"put @app\.samples above a function"):
        app_with(1).samples([1])


def test_an_app_has_samples_once():
    app = app_with(1)
    app.samples(lambda: [1])
    with pytest.raises(DeclarationError, match="already has samples"):
        app.samples(lambda: [2])


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (list, r"returned \[\]; return a list with at least one sample"),
        (lambda: None, "returned None"),
        (lambda: [1], r"a sample is a tuple \(left, right\)"),
        (lambda: [(1, 2, 3)], r"as sample 0"),
        (lambda: 1 / 0, "raised ZeroDivisionError"),
    ],
)
def test_wrong_samples_are_named(returned, message):
    app = app_with(2)
    app.samples(returned)
    with pytest.raises(DeclarationError, match=message):
        app.sample_values()
