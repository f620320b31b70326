"""Starts and ends the servers under test: each on free loopback ports, in a folder of its own.

The real binary comes from SCATTERHOARD_BIN (default: target/debug/scatterhoard), with its real
local pool. redis-server is the oracle.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

ROOT = pathlib.Path(__file__).resolve().parents[3]
BINARY = pathlib.Path(os.environ.get("SCATTERHOARD_BIN", ROOT / "target/debug/scatterhoard"))

START_LIMIT_S = 60
STOP_LIMIT_S = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A child process that answers PING; always ended by its own pid."""

    name = "server"
    port = 0

    def __init__(self, arguments, port, environment=None):
        self.port = port
        self.folder = tempfile.mkdtemp(prefix="scatterhoard-peer-")
        self.log = pathlib.Path(self.folder) / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(argument).replace("{folder}", self.folder) for argument in arguments],
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended at once:\n{self.log_tail()}")
            self.port = self.port or self._announced_port()
            if self._is_ready():
                return
            time.sleep(0.02)
        raise AssertionError(f"{self.name} does not answer:\n{self.log_tail()}")

    def _is_ready(self):
        try:
            with self.client(socket_timeout=5) as client:
                return client.ping()
        except redis.ConnectionError:
            return False

    def _announced_port(self):
        """The port in the line that says ready; 0 until it is there."""
        found = re.search(r"^.*\bready\b.*?127\.0\.0\.1:(\d+)", self.log.read_text(), re.M)
        return int(found[1]) if found else 0

    def client(self, protocol=2, socket_timeout=60, **options):
        """A redis-py client that never hides an error behind a retry."""
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            protocol=protocol,
            socket_timeout=socket_timeout,
            retry=Retry(NoBackoff(), 0),
            **options,
        )

    def log_tail(self, lines=40):
        text = self.log.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def stop(self):
        """SIGTERM must end it, with exit code 0, within the limit."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.name} ignores SIGTERM:\n{self.log_tail()}") from None
        assert code == 0, f"{self.name} ended with code {code}:\n{self.log_tail()}"
        shutil.rmtree(self.folder, ignore_errors=True)


class RedisServer(Server):
    name = "redis-server"

    def __init__(self):
        port = free_port()
        super().__init__(
            ["redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "",
             "--appendonly", "no", "--daemonize", "no"],
            port,
        )


class Scatterhoard(Server):
    """The real binary. The hot tier is off by default, so that reads reach the nodes."""

    name = "scatterhoard"

    def __init__(self, nodes=14, node_memory_mb=256, data_parity="10+2", hot_tier_mb=0, port=None,
                 more=(), environment=None, data_dir="{folder}/data"):
        if not BINARY.exists():
            raise AssertionError(f"{BINARY} is not there: build it, or set SCATTERHOARD_BIN")
        port = free_port() if port is None else port
        self.admin_port = free_port()
        super().__init__(
            [BINARY, "serve", "--listen", f"127.0.0.1:{port}",
             "--admin", f"127.0.0.1:{self.admin_port}", "--nodes", nodes,
             "--node-memory-mb", node_memory_mb, "--data-parity", data_parity,
             "--hot-tier-mb", hot_tier_mb, "--data-dir", data_dir, *more],
            port,
            environment,
        )

    def admin(self, path, method="GET"):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.admin_port}{path}", method=method
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.read().decode()

    def instances(self):
        return json.loads(self.admin("/pool/instances"))

    def reclaim(self, count, seed=0):
        """The platform takes `count` instances away: SIGKILL, without notice."""
        return self.admin(f"/pool/reclaim?count={count}&seed={seed}", method="POST")

    def metric(self, name):
        """The sum of a metric over its labels; 0 if it is not there."""
        lines = (line.rsplit(" ", 1) for line in self.admin("/metrics").splitlines())
        return sum(float(line[1]) for line in lines if line[0].split("{")[0] == name)


class S3(Server):
    """MiniStack's S3 on a loopback port: objects in memory, any credentials."""

    name = "ministack"

    def __init__(self):
        self.port = free_port()
        super().__init__(self._arguments(), self.port, {"SERVICES": "s3", "S3_PERSIST": "0"})

    def _arguments(self):
        return [sys.executable, "-m", "hypercorn", "ministack.app:app", "--workers", "0",
                "--bind", f"127.0.0.1:{self.port}"]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def _ask(self, method, path):
        request = urllib.request.Request(self.url + path, method=method)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.read().decode()

    def _is_ready(self):
        try:
            self._ask("GET", "/")
            return True
        except OSError:
            return False

    def make_bucket(self, bucket):
        self._ask("PUT", f"/{bucket}")

    def names(self, bucket):
        return re.findall("<Key>(.*?)</Key>", self._ask("GET", f"/{bucket}?list-type=2"))

    def unfinished(self, bucket):
        """Uploads in parts that are neither ended nor aborted."""
        return re.findall("<UploadId>(.*?)</UploadId>", self._ask("GET", f"/{bucket}?uploads"))

    def pause(self):
        """It takes connections, and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def restart_empty(self):
        self.stop()
        super().__init__(self._arguments(), self.port, {"SERVICES": "s3", "S3_PERSIST": "0"})
