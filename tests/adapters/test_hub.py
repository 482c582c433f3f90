"""`push_to_hub` and `from_pretrained` with the real huggingface_hub, against a stand-in for the hub on this machine."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "somebody/tiny"


class Hub(BaseHTTPRequestHandler):
    """What the client asks of a hub to make a repository, commit small files, list and download them."""

    files: dict[str, bytes] = {}
    asked: list[str] = []

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value: Any) -> None:
        self.answer(json.dumps(value).encode(), **{"Content-Type": "application/json"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(self.path)
        if self.path.endswith("/repos/create"):
            self.json({"url": f"http://{self.headers['Host']}/{REPOSITORY}"})
        elif "/preupload/" in self.path:
            asked = [entry["path"] for entry in json.loads(body)["files"]]
            self.json({"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in asked]})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/{REPOSITORY}/commit/{COMMIT}"
            self.json({"commitOid": COMMIT, "commitUrl": url})
        else:
            self.json({})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        match = re.fullmatch(rf"/{REPOSITORY}/resolve/[^/]+/(.+)", self.path)
        if match and match[1] in self.files:
            body = self.files[match[1]]
            self.answer(body, ETag=f'"{hashlib.sha1(body).hexdigest()}"')
        elif match:
            self.answer(b"", 404, **{"X-Error-Code": "EntryNotFound"})
        elif f"/api/models/{REPOSITORY}/tree/" in self.path:
            self.json([{"type": "file", "path": p, "size": len(b), "oid": COMMIT} for p, b in self.files.items()])
        elif f"/api/models/{REPOSITORY}" in self.path:
            siblings = [{"rfilename": path} for path in self.files]
            self.json({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []})
        else:
            self.answer(b"", 404)


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.files, Hub.asked = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


SCRIPT = """
import sys
import torch, wavdiff
from diffusers import DiffusionPipeline
here = wavdiff.WaveletCascadePipeline.from_pretrained(sys.argv[1])
here.push_to_hub("somebody/tiny", token="hf_none")
own = wavdiff.WaveletCascadePipeline.from_pretrained("somebody/tiny", cache_dir=sys.argv[2])
theirs = DiffusionPipeline.from_pretrained("somebody/tiny", cache_dir=sys.argv[2], trust_remote_code=True)
drawn = [pipeline(3, seed=5, output_type="pt").images for pipeline in (here, own, theirs)]
assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])
assert type(theirs) is wavdiff.WaveletCascadePipeline
"""


@pytest.mark.slow
def test_a_model_goes_to_the_hub_and_comes_back(hub: str, tiny_model: Path, tmp_path: Path) -> None:
    settings = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", SCRIPT, tiny_model, tmp_path / "cache"]  # not `Fresh`: read when it is imported
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.stderr, Hub.asked)
    assert {"model_index.json", "pipeline.py", "README.md", "cascade/config.json"} <= Hub.files.keys()
