import time
from pathlib import Path
from typing import Any

import pytest

from compress.targets.measuring import timing
from compress.targets.measuring.timing import offline, warm_up
from tests.targets.measuring.running import latency, run, save


def test_latency_times_each_batch_size_and_throughput(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", "g (float[batch,4] x) => (float[batch,4] y) { y = Relu(x) }")
    (result,), _ = run(tmp_path, {"model": str(model), "latency": latency(batches=[8, 1], throughput_batches=[16, 4])})
    assert [(item["batch"], item["shapes"]) for item in result["runs"]] == [(1, {"x": [1, 4]}), (8, {"x": [8, 4]})]
    assert all(len(item["samples_ns"]) >= 3 and min(item["samples_ns"]) > 0 for item in result["runs"])
    assert [item["batch"] for item in result["throughput"]] == [4, 16]
    assert all(item["examples_per_second"] > 0 for item in result["throughput"])
    assert result["load_ms"] > 0


def test_warm_up_of_a_slow_model_ends() -> None:
    class Slow:
        calls = 0

        def run(self, names: None, feeds: dict[str, Any]) -> None:
            import time

            self.calls += 1
            time.sleep(0.02)

    slow = Slow()
    warm_up(slow, {}, 0.004)
    assert 2 <= slow.calls <= 3  # 40 ms, ten times what was asked, and not 20 calls


class StandInSession:
    """Stands in for a session: a call takes a millisecond."""

    calls = 0

    def get_outputs(self) -> list[Any]:
        return []

    def run(self, names: Any, feeds: Any) -> None:
        self.calls += 1
        time.sleep(0.001)


class StandInMeter:
    """Stands in for a meter: 6 joules a second."""

    name = "stand-in"

    def start(self) -> None:
        self.before = time.perf_counter()

    def stop(self) -> float:
        return 6 * (time.perf_counter() - self.before)


def test_energy_is_that_of_an_example_over_the_offline_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ENERGY_SECONDS", 0.2)
    found = offline(StandInSession(), {}, 8, 0.01, [StandInMeter()])
    assert found["batch"] == 8
    assert found["joules_per_example"]["stand-in"] * found["examples_per_second"] == pytest.approx(6, rel=0.05)
    assert set(offline(StandInSession(), {}, 8, 0.01, [])) == {"batch", "examples_per_second"}


def test_a_rehearsal_counts_no_second_of_energy() -> None:
    session = StandInSession()
    offline(session, {}, 1, 0.0, [StandInMeter()])
    assert session.calls <= 4
