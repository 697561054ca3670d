"""``grainwise policies``: every set is there with whose idea it is, and one is told in full."""

import msgspec
import pytest
from command_line import grainwise

from grainwise.cli.policies_command import QUESTIONS, Listed, describe
from grainwise.policies.policy_set import PolicySet
from grainwise.policies.sets import SETS


def test_every_set_is_listed_with_its_source_and_its_own_parts():
    said = grainwise("policies")
    assert said.code == 0, said.err
    for policies in SETS.values():
        assert f" {policies.name} " in said.out
        if policies.provenance.source:
            assert policies.provenance.source.split()[0] in said.out
    assert "After published schedulers, not their code" in said.words
    assert "(reconstructed)" in said.out
    assert "scale: autoscale_pool.decide" in said.words
    assert max(map(len, said.out.splitlines())) <= 120


def test_as_json_every_set_answers_every_question():
    said = grainwise("policies", "--json")
    listed = msgspec.json.decode(said.out, type=list[Listed])
    assert [each.name for each in listed] == list(SETS)
    for each in listed:
        assert [part.question for part in each.parts] == list(QUESTIONS)
        assert all(part.summary for part in each.parts)
        assert each.against in ("adaptive", "fixed")
    by_name = {each.name: each for each in listed}
    assert not any(part.is_own for part in by_name["adaptive"].parts)
    assert [part.question for part in by_name["eager"].parts if part.is_own] == ["batch_or_wait"]
    assert [part.question for part in by_name["orion_configuration"].parts if part.is_own] == ["configure"]
    knative = {part.question: part for part in by_name["knative"].parts}
    assert knative["scale"].policy == "autoscale_concurrency.decide"
    assert knative["keep"].is_own
    assert by_name["knative"].measures_concurrency


def test_one_set_is_told_part_by_part():
    said = grainwise("policies", "orion")
    assert said.code == 0, said.err
    assert "after Mahgoub et al.: Orion, OSDI 2022; evidence: reconstructed" in said.words
    assert "* scale, how many instances? autoscale_ahead.decide" in said.words
    assert "what arrivals will bring" in said.words or "the app's arrivals will bring to it" in said.words
    assert "planning.published.orion.configure" in said.words
    one = msgspec.json.decode(grainwise("policies", "orion", "--json").out, type=Listed)
    assert one == describe(SETS["orion"])


def test_our_own_sets_say_what_they_have_beside_parts():
    said = grainwise("policies", "one_share")
    assert "Every invocation has the share of its function's plan." in said.words
    assert "evidence" not in said.words
    assert "samples how many items" in grainwise("policies", "concurrency").words


def test_an_unknown_set_is_refused_with_those_that_there_are():
    said = grainwise("policies", "nobody")
    assert said.code == 2
    assert "there is no policy set 'nobody'" in said.err
    assert "orion_configuration" in said.err


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_is_a_part_of_a_set(question):
    assert question in PolicySet.__dataclass_fields__
