"""The hub's endpoint as `huggingface_hub` asks it, on this machine: repositories in memory, with one commit each."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_of_the_test"
SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """repositories: files by name, of each. asked: every request. private: those that only TOKEN reads. sizes: what is
    told of a file's size, where that is not so."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.stored: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self._body()
        path = self._path()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._say(401, {"error": "Invalid credentials"})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.server.repositories:
                return self._say(409, {"error": "You already created it", "url": f"{self.server.address}/{name}"})
            self.server.repositories[name] = {}
            if asked.get("private") or asked.get("visibility") == "private":  # of older and of newer clients
                self.server.private.add(name)
            return self._say(200, {"url": f"{self.server.address}/{name}", "name": name})
        if path == "/api/validate-yaml":
            return self._say(200, {"errors": [], "warnings": []})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            files = [
                {
                    "path": each["path"],
                    "shouldIgnore": False,
                    "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
                }
                for each in json.loads(body)["files"]
            ]
            return self._say(200, {"files": files})
        if re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.server.address}/lfs/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            return self._say(200, {"transfer": "basic", "objects": objects})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            self._commit(found[1], [json.loads(line) for line in body.splitlines()])
            url = f"{self.server.address}/{found[1]}/commit/{SHA}"
            return self._say(200, {"commitUrl": url, "commitOid": SHA, "success": True})
        return self._say(404, {"error": f"no {path}"})

    def do_PUT(self) -> None:
        body, oid = self._body(), self._path().rpartition("/")[2]
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.stored[oid] = body
        self._say(200, {})

    def do_GET(self) -> None:
        path = self._path()
        owned = re.match(r"(?:/api/models)?/([^/]+/[^/]+)", path)
        name = owned[1] if owned else ""
        files = self.server.repositories.get(name)
        refused = name in self.server.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        if files is None or refused:
            return self._say(401 if refused else 404, {"error": "Repository not found"}, "RepoNotFound")
        if re.fullmatch(rf"/api/models/{name}(/revision/\w+)?", path):
            sizes = {file: self.server.sizes.get(file, len(content)) for file, content in files.items()}
            siblings = [{"rfilename": file, "size": size, "blobId": "0"} for file, size in sizes.items()]
            return self._say(200, {"id": name, "sha": SHA, "siblings": siblings})
        if path.startswith(f"/api/models/{name}/tree/"):
            rows = [
                {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for file, content in files.items()
            ]
            return self._say(200, rows)
        file = path.removeprefix(f"/{name}/resolve/{SHA}/")
        if file not in files:
            return self._say(404, {"error": "Entry not found"}, "EntryNotFound")
        tag = f'"{hashlib.sha1(files[file]).hexdigest()}"'
        return self._send(200, files[file], {"ETag": tag, "X-Repo-Commit": SHA})

    do_HEAD = do_GET  # noqa: N815

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = self.server.repositories[name]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.stored[value["oid"]]

    def _path(self) -> str:
        self.server.asked.append(f"{self.command} {self.path}")
        return unquote(self.path.partition("?")[0])

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _say(self, status: int, said: Any, code: str = "") -> None:
        self._send(status, json.dumps(said).encode(), {"X-Error-Code": code} if code else {})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def running() -> Iterator[Hub]:
    """A hub that answers meanwhile."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
