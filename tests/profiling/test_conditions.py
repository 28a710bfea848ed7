from typing import Any

import pytest

from compress.profiling.conditions import waiting_shares, what_moved


def rounds(**after: list[Any]) -> list[dict[str, Any]]:
    """A round for each value; before the first all is as in it."""
    count = len(next(iter(after.values())))
    states = [{key: values[index] for key, values in after.items()} for index in range(count)]
    return [{"file": "m", "threads": 1, "before": states[0], "after": state} for state in states]


def test_a_steady_machine_has_nothing_to_say() -> None:
    steady = rounds(
        frequency_mhz=[[3000.0, 3010.0], [3050.0, 3000.0]], temperature_c=[50.0, 59.0], throttle_count=[7, 7],
        throttled_now=[False, False],
    )  # fmt: skip
    assert what_moved(steady) == []


def test_a_machine_that_tells_nothing_has_nothing_to_say() -> None:
    assert what_moved(rounds(frequency_mhz=[None, None], temperature_c=[None, None], throttle_count=[None, None])) == []
    assert what_moved([{"file": "m", "threads": 1, "before": {}, "after": {}}]) == []


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"frequency_mhz": [[3000.0], [2500.0]]}, "clock moved between 2500 and 3000 MHz"),
        ({"temperature_c": [45.0, 61.5]}, "temperature moved between 45 and 62 °C"),
        ({"throttle_count": [3, 5]}, "slowed down by heat or low voltage while measuring (2 times)"),
        ({"throttled_now": [False, True, True]}, "slowed down by heat or low voltage while measuring (after 2 of 3"),
    ],
)
def test_what_moved_is_said_with_its_numbers(after: dict[str, list[Any]], said: str) -> None:
    (note,) = what_moved(rounds(**after))
    assert said in note and note.endswith("times of this run may not be those of another")


def waiting(*seconds: float | None) -> list[dict[str, Any]]:
    """Rounds of ten seconds, in which a process waited for so many."""
    return [
        {"before": {"waited_s": 1.0, "clock_s": 50.0}, "after": {"waited_s": part and 1.0 + part, "clock_s": 60.0}}
        for part in seconds
    ]


def test_how_long_processes_waited_is_told_where_half_of_them_did() -> None:
    assert waiting_shares(waiting(5.0, None, 2.5)) == [0.5, 0.25]
    assert what_moved(waiting(5.0, 0.1, 0.2)) == what_moved(waiting(None, None)) == []
    (note,) = what_moved(waiting(5.0, 0.1, 4.0))
    assert "other programs had the same processor cores for 40% of the time" in note
