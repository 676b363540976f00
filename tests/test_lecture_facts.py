"""The worked numbers of the lectures, from nbconv's public API, with the row's id in the test's.

C: convolution and pooling arithmetic. P: parameter counts and shapes. T: training rules.
"""

import importlib

import pytest

ROOMS = ("lecture_arithmetic", "lecture_networks", "lecture_training", "lecture_data", "lecture_craft")

pytest.register_assert_rewrite("lecture_rows", *ROOMS)
FACTS = importlib.import_module("lecture_rows").FACTS
for room in ROOMS:
    importlib.import_module(room)

EXPECTED = {"C": range(1, 16), "P": range(1, 13), "T": range(1, 15)}


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", FACTS)
def test_fact(name, backend):
    FACTS[name](backend)


def test_every_row_of_this_release_is_here():
    expected = {f"{letter}{number}" for letter, numbers in EXPECTED.items() for number in numbers}
    assert sorted(expected - FACTS.keys()) == []
    assert set(FACTS) == expected
