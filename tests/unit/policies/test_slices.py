"""The geometry of hard slices, against a definition by trying everything, and the choice of a part of a device."""

from functools import cache
from itertools import combinations_with_replacement, product

import pytest

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.machine import MIG_PROFILES, Device, SliceProfile
from grainwise.policies import placement
from grainwise.policies.placement import NodeView
from grainwise.policies.slices import DeviceNeed, DeviceView, best_start, free_starts, grant

A100 = Device("gpu0", "A100", 40_960.0, 7)
L4 = Device("gpu1", "L4", 24_576.0)
SIZES = (1, 2, 3, 4, 7)
OF = dict(zip(SIZES, MIG_PROFILES, strict=True))
# By memory slices, of which there are eight: the guide's placements, written down once more and independently.
MEMORY_SLICES = {1: ((0, 1, 2, 3, 4, 5, 6), 1), 2: ((0, 2, 4), 2), 3: ((0, 4), 4), 4: ((0,), 4), 7: ((0,), 8)}


def spans(size: int) -> list[frozenset[int]]:
    starts, length = MEMORY_SLICES[size]
    return [frozenset(range(start, start + length)) for start in starts]


def fits(sizes: tuple[int, ...]) -> bool:
    """Whether some arrangement holds them all."""
    return any(
        sum(len(span) for span in arrangement) == len(frozenset().union(*arrangement))
        for arrangement in product(*(spans(size) for size in sizes))
    )


def largest_free(taken: int) -> int:
    """The largest size that some start still takes."""
    return max((size for size in SIZES if free_starts(OF[size], taken)), default=0)


def give(sizes: tuple[int, ...]) -> list[int] | None:
    """Slots of each, given one after the other; None where one does not fit."""
    taken, masks = 0, []
    for size in sizes:
        start = best_start(A100, taken, OF[size])
        if start is None:
            return None
        assert start in OF[size].starts
        mask = OF[size].mask(start)
        assert not mask & taken
        taken |= mask
        masks.append(mask)
    return masks


@pytest.mark.parametrize("size", SIZES)
def test_a_slice_takes_the_slots_of_its_part_of_the_memory(size):
    profile = OF[size]
    assert profile.memory_fraction == MEMORY_SLICES[size][1] / 8
    for start, span in zip(profile.starts, spans(size), strict=True):
        assert [slot for slot in range(7) if profile.mask(start) >> slot & 1] == sorted(span - {7})


def test_slices_from_the_largest_on_fit_whenever_any_arrangement_does():
    for count in range(1, 8):
        for sizes in combinations_with_replacement(sorted(SIZES, reverse=True), count):
            if sum(sizes) <= 8:
                assert (give(sizes) is not None) == fits(sizes), sizes


@cache
def reachable(depth: int) -> frozenset[int]:
    """Masks that some sequence of slices at any starts leads to."""
    if not depth:
        return frozenset({0})
    before = reachable(depth - 1)
    return before | {
        mask | profile.mask(start) for mask in before for profile in MIG_PROFILES for start in free_starts(profile, mask)
    }


def test_wherever_slices_stand_the_largest_remaining_profile_is_kept_free():
    assert len(reachable(7)) > 50
    for taken in sorted(reachable(7)):
        for profile in MIG_PROFILES:
            starts = free_starts(profile, taken)
            chosen = best_start(A100, taken, profile)
            assert (chosen is None) == (not starts)
            if chosen is not None:
                most = max(largest_free(taken | profile.mask(start)) for start in starts)
                assert largest_free(taken | profile.mask(chosen)) == most


def test_four_free_slots_that_take_no_four():
    """Slots 0, 4 and 5 are taken, as when slices have ended in an unlucky order: 1, 2, 3 and 6 are free."""
    scattered = DeviceView(A100, 0b0110001)
    assert grant(scattered, DeviceNeed(4 / 7, 1000.0)) is None
    assert grant(scattered, DeviceNeed(2 / 7, 1000.0)) is not None
    verdict = placement.decide([node("a", scattered)], 1.0, 0.1, False, DeviceNeed(4 / 7, 1000.0))
    assert isinstance(verdict, placement.NoRoom)
    assert verdict.render() == "no device has room for 0.57 of a device with 1000 MiB: gpu0 has 4 of 7 slots free"


def test_three_small_slices_leave_room_for_a_four():
    assert give((1, 1, 1, 4)) == [1 << 6, 1 << 5, 1 << 4, 0b1111]


def test_a_slice_is_as_large_as_compute_and_memory_ask():
    view = DeviceView(A100)
    cases = {
        (0.01, 0.0): 1,
        (2 / 7, 0.0): 2,
        (0.4, 0.0): 3,
        (0.1, 6000.0): 2,
        (0.1, 20_480.0): 3,
        (0.1, 20_481.0): 7,
        (1.0, 1.0): 7,
    }
    for (share, memory), slots in cases.items():
        given = grant(view, DeviceNeed(share, memory))
        assert given is not None
        assert given.share_fraction == slots / 7
    assert grant(view, DeviceNeed(0.1, 41_000.0)) is None


def test_soft_shares_add_up_to_one_and_to_the_memory():
    half = DeviceNeed(0.5, 10_000.0)
    assert grant(DeviceView(L4, 0, 0.5, 10_000.0), half) is not None
    assert grant(DeviceView(L4, 0, 0.6, 10_000.0), half) is None
    assert grant(DeviceView(L4, 0, 0.5, 15_000.0), half) is None
    thirds = DeviceView(L4, 0, 0.1 + 0.2 + 0.3, 0.0)
    assert grant(thirds, DeviceNeed(0.4, 0.0)) is not None


def test_what_is_left_from_another_cut_still_counts():
    assert grant(DeviceView(A100, 0, 0.9, 0.0), DeviceNeed(0.2, 0.0)) is None
    assert grant(DeviceView(A100, 0, 0.0, 40_000.0), DeviceNeed(0.1, 2000.0)) is None


def node(name: str, *devices: DeviceView, memory: float = 1000.0, cores: float = 4.0) -> NodeView:
    return NodeView(name, memory, cores, 4.0, devices)


def place(*nodes: NodeView, share: float = 0.25, is_hard: bool = False) -> placement.Place | placement.NoRoom:
    return placement.decide(nodes, 500.0, 1.0, is_hard, DeviceNeed(share, 100.0))


def test_the_fullest_device_that_has_room_is_taken_so_that_whole_ones_stay_free():
    verdict = place(node("a", DeviceView(L4)), node("b", DeviceView(L4, 0, 0.5, 0.0)), node("c", DeviceView(L4, 0, 0.9, 0.0)))
    assert isinstance(verdict, placement.Place)
    assert verdict.node == "b"
    assert verdict.grant is not None
    assert (verdict.grant.share_fraction, verdict.grant.start, verdict.grant.slots) == (0.25, -1, 0)


def test_a_slice_that_gives_more_than_is_asked_is_taken_last():
    verdict = place(node("a", DeviceView(A100)), node("b", DeviceView(L4)), share=0.2)
    assert isinstance(verdict, placement.Place)
    assert verdict.node == "b"


def test_a_device_is_of_no_use_where_the_node_has_no_room():
    verdict = place(node("a", DeviceView(L4), memory=300.0), node("b", memory=9000.0))
    assert verdict == placement.NoRoom(200.0)
    assert place(node("a", DeviceView(L4), cores=0.25), is_hard=True) == placement.NoRoom(0.0, 0.75)


def test_without_any_device_the_answer_says_so():
    verdict = place(node("a"))
    assert isinstance(verdict, placement.NoRoom)
    assert verdict.render() == "no node has a device"


def test_a_device_with_slots_needs_a_way_to_cut_them():
    with pytest.raises(ConfigurationError, match="device x has 3 slots and no profiles"):
        Device("x", "odd", 1.0, 3)
    odd = Device("x", "odd", 1000.0, 2, (SliceProfile(1, 0.5, (0, 1)), SliceProfile(2, 1.0, (0,))))
    given = grant(DeviceView(odd), DeviceNeed(0.5, 500.0))
    assert given is not None
    assert (given.start, given.share_fraction) == (1, 0.5)
