"""Emulators of AWS on loopback ports, and what the tests do with them through AWS's own clients.

Servers are started and ended as those of tests/peers/python, whose base this uses.
"""

import os
import pathlib
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/peers/python"))

import boto3  # noqa: E402
import botocore.config  # noqa: E402

from servers import BINARY, Scatterhoard, Server, free_port  # noqa: E402

REGION = "us-east-1"
NODE_ZIP = pathlib.Path(
    os.environ.get("SCATTERHOARD_NODE_ZIP", ROOT / "target/package/out/node-x86_64.zip")
)
SOON_S = 60


def until(what, is_so, limit_s=SOON_S):
    """Waits until it is so; what took longer than the limit hangs."""
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline, f"not so within {limit_s} s: {what}"
        time.sleep(0.05)


class Emulator(Server):
    """AWS's API on one loopback port; takes any credentials."""

    ready = "/"

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self):
        """For AWS's clients and for Terraform: this emulator, and nothing of this machine."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }

    def aws(self, service):
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=botocore.config.Config(
                retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}
            ),
        )

    def _is_ready(self):
        try:
            urllib.request.urlopen(self.url + self.ready, timeout=30).close()
            return True
        except OSError:
            return False


class MiniStack(Emulator):
    """Runs functions: their real zips, as processes of this machine."""

    name = "ministack"
    ready = "/_ministack/health"

    def __init__(self, **environment):
        port = free_port()
        super().__init__(
            [sys.executable, "-m", "hypercorn", "ministack.app:app", "--workers", "0",
             "--bind", f"127.0.0.1:{port}"],
            port,
            {
                "BIND_HOST": "127.0.0.1",
                "GATEWAY_PORT": str(port),
                "S3_PERSIST": "0",
                "LAMBDA_EXECUTOR": "local",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                **environment,
            },
        )


class Moto(Emulator):
    """Takes calls and remembers them; runs nothing."""

    name = "moto"
    ready = "/moto-api/"

    def __init__(self):
        port = free_port()
        super().__init__(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port
        )

    def stop(self):
        # it has no handler for SIGTERM: that this ends it is all there is to see
        self.process.terminate()
        self.process.wait(30)


class Functions:
    """Functions of the real zip, made through the real SDK."""

    def __init__(self, cloud, prefix, count, memory_mb=512, timeout_s=60, zip_path=None):
        self.api = cloud.aws("lambda")
        self.prefix = prefix
        self.names = [f"{prefix}-{i:03}" for i in range(count)]
        self.memory_mb = memory_mb
        self.timeout_s = timeout_s
        for name in self.names:
            self.create(name, zip_path)

    def create(self, name, zip_path=None):
        self.api.create_function(
            FunctionName=name,
            Runtime="provided.al2023",
            Handler="bootstrap",
            Role="arn:aws:iam::000000000000:role/node",
            Code={"ZipFile": pathlib.Path(zip_path or NODE_ZIP).read_bytes()},
            MemorySize=self.memory_mb,
            Timeout=self.timeout_s,
            Environment={"Variables": {"MIMALLOC_PURGE_DELAY": "0"}},
        )

    def delete(self):
        for name in self.names:
            try:
                self.api.delete_function(FunctionName=name)
            except self.api.exceptions.ResourceNotFoundException:
                pass

    def processes(self):
        """Process ids of the instances that live, by function: this machine's own view."""
        found = {name: [] for name in self.names}
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                program = os.readlink(folder / "exe")
            except OSError:
                continue
            if not program.endswith("/bootstrap"):
                continue
            for name in self.names:
                if f"AWS_LAMBDA_FUNCTION_NAME={name}".encode() in environment:
                    found[name].append(int(folder.name))
        return found


class Proxy(Scatterhoard):
    """The real proxy, with its nodes in an emulator."""

    def __init__(self, cloud, functions, data_parity="3+2", more=(), **options):
        super().__init__(
            nodes=len(functions.names),
            node_memory_mb=functions.memory_mb,
            data_parity=data_parity,
            more=["--lambda-endpoint", cloud.url, "--function-prefix", functions.prefix,
                  "--link-listen", "127.0.0.1:0", *more],
            **options,
        )

    def outcomes(self):
        """Invocations by how they ended, over all purposes."""
        counted = {}
        for line in self.admin("/metrics").splitlines():
            if line.startswith("scatterhoard_invocations_total{"):
                outcome = line.split('outcome="')[1].split('"')[0]
                counted[outcome] = counted.get(outcome, 0) + float(line.rsplit(" ", 1)[1])
        return counted
