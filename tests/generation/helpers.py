"""What the tests of written texts share: data, networks at rest, a server of chat completions."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from compress.bundle import Bundle, Kind
from compress.data.settings import DataSettings, read_data_settings
from compress.models.settings import ModelSettings
from compress.models.stage import Build
from compress.stage import Context
from compress.tasks.settings import TaskSettings

WORDS = ["the", "cat", "sat", "on", "mat", "a", "dog", ".", "ran", "to", "answer", "explain", ":", "why", "because"]
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
LLAMA = {
    "model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2}
T5 = {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
NETWORKS = {"causal-lm": LLAMA, "sequence-to-sequence": T5}


def row(number: int) -> dict[str, str]:
    """A question of two to four words, which differs from the last dozen's, an answer and a rationale."""
    words = [WORDS[number % 5], WORDS[5 + number % 7], *(["dog"] * (number % 3))]
    return {"q": " ".join(words), "a": f"the {WORDS[number % 7]} .", "why": f"because {words[0]} ."}


def write_questions(folder: Path, count: int = 30) -> dict[str, Any]:
    """The content of a data file whose table and vocabulary are written into `folder`."""
    (folder / "vocab.txt").write_text("\n".join(TOKENS) + "\n")
    (folder / "t.jsonl").write_text("".join(json.dumps(row(number)) + "\n" for number in range(count)))
    return {
        "source": {"table": {"path": "t.jsonl", "input": "q", "target": "a"}},
        "split": {"validation": 0.1, "test": 0.1},
        "text": {
            "tokenizer": {"vocabulary": "vocab.txt"}, "targets": "text", "rationale": "why", "max_length": 24,
        },
    }  # fmt: skip


def question_settings(folder: Path, **text: Any) -> DataSettings:
    content = write_questions(folder)
    return read_data_settings({**content, "text": {**content["text"], **text}}, folder)


def context_of(data: DataSettings, task: str = "causal-lm", **more: Any) -> Context:
    return Context(device="cpu", threads=1, data=data, task=TaskSettings(name=task), **more)


def built(folder: Path, context: Context, config: dict[str, Any] | None = None, name: str = "teacher") -> Bundle:
    """A network with new weights at rest."""
    home = folder / name
    home.mkdir()
    model = ModelSettings(transformers=config or NETWORKS[context.task.name])
    Build(name=name, model=model).run({}, home, context)
    return Bundle(Kind.TORCH, home, digest=name)


@dataclass
class ChatServer:
    """Answers each question with its words the other way round. `fails` gives a status (0: no failure) by request."""

    fails: Callable[[int, str], int] = lambda number, prompt: 0
    usage: bool | dict[str, Any] = True
    seen: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    on_request: Callable[[int], None] = lambda number: None

    def __enter__(self) -> ChatServer:
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.seen.append(body)
                    outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                    number = len(outer.seen)
                prompt = body["messages"][0]["content"]
                outer.on_request(number)
                status = outer.fails(number, prompt)
                key = self.headers.get("Authorization", "")
                content = {"error": {"message": f"no luck with {key}"}} if status else outer._completion(prompt)
                data = json.dumps(content).encode()
                self.send_response(status or 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.send_header("retry-after-ms", "5")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def _completion(self, prompt: str) -> dict[str, Any]:
        text = " ".join(reversed(prompt.split()))
        counted = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        found: dict[str, Any] = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [choice],
        }
        return found if self.usage is False else {**found, "usage": counted if self.usage is True else self.usage}
