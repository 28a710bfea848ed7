"""The time of each layer of an engine."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, SupportsFloat

from compress.targets.measuring.errors import running
from compress.targets.measuring.inputs import feeds_for
from compress.targets.measuring_tensorrt.session import EngineSession

if TYPE_CHECKING:
    import tensorrt as trt


def operators(session: EngineSession, request: dict[str, Any]) -> dict[str, Any]:
    """As `measuring`'s `operators`: the mean microseconds of each layer of the engine, by TensorRT's profiler."""
    import tensorrt

    class Noted(tensorrt.IProfiler):
        def __init__(self) -> None:
            tensorrt.IProfiler.__init__(self)
            self.milliseconds: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name: str, ms: SupportsFloat) -> None:
            self.milliseconds.setdefault(layer_name, []).append(float(ms))

    feeds = feeds_for(session, request["batch"], request.get("axes", {}))
    noted, calls = Noted(), 0
    with running(feeds):
        session.run(None, feeds)
        session.context.profiler = noted
        end = time.perf_counter() + request["seconds"]
        while time.perf_counter() < end or calls < request["minimum_calls"]:
            session.execute()
            session.cuda.synchronize()
            calls += 1
    kinds = layer_kinds(session.engine)
    found = []
    for name, times in noted.milliseconds.items():
        kept = sorted(times)[len(times) // 10 : len(times) // 2 + 1]
        found.append({"name": name, "operator": kinds.get(name, ""), "microseconds": 1000 * sum(kept) / len(kept)})
    return {"operators": found, "calls": calls}


def layer_kinds(engine: trt.ICudaEngine) -> dict[str, str]:
    """The kind of each layer by its name, where the engine was built with details."""
    import tensorrt

    text = engine.create_engine_inspector().get_engine_information(tensorrt.LayerInformationFormat.JSON)
    layers = json.loads(text).get("Layers", []) if text else []
    return {layer["Name"]: layer.get("LayerType", "") for layer in layers if isinstance(layer, dict)}
