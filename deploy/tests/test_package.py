"""deploy/package, and the scripts that it packs."""

import hashlib
import http.server
import os
import pathlib
import platform
import re
import shutil
import subprocess
import tarfile
import threading
import zipfile

import pytest

from emulators import NODE_ZIP, REGION, ROOT

PACKAGE = ROOT / "deploy/package"
HERE = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
OTHER = {"x86_64": "arm64", "arm64": "x86_64"}[HERE]


def package(*arguments, **environment):
    return subprocess.run(
        [PACKAGE, *map(str, arguments)], env={**os.environ, **environment},
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )


def compiled(folder, source, *arguments):
    """A program of a few lines of C."""
    path = folder / "program"
    subprocess.run(["cc", "-x", "c", "-", "-o", path, *arguments], input=source, text=True, check=True)
    return path


def test_the_node_is_one_static_program(tmp_path):
    with zipfile.ZipFile(NODE_ZIP) as packed:
        (entry,) = packed.infolist()
        assert entry.filename == "bootstrap"
        assert entry.external_attr >> 16 == 0o100755
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)
        program = tmp_path / "bootstrap"
        program.write_bytes(packed.read(entry))
    # without an interpreter and a needed library there is nothing that Amazon Linux may lack
    headers = subprocess.run(["readelf", "-ld", program], capture_output=True, text=True).stdout
    assert "LOAD" in headers and "INTERP" not in headers and "NEEDED" not in headers
    assert str(ROOT).encode() not in program.read_bytes()
    assert str(pathlib.Path.home() / ".cargo").encode() not in program.read_bytes()


def test_the_same_program_is_the_same_file(tmp_path):
    program = tmp_path / "program"
    with zipfile.ZipFile(NODE_ZIP) as packed:
        program.write_bytes(packed.read("bootstrap"))
    program.chmod(0o700)
    hashes = set()
    for when in (1_000_000_000, 1_500_000_000):
        os.utime(program, (when, when))
        out = tmp_path / str(when)
        done = package("node", "--binary", program, "--out", out)
        assert done.returncode == 0, done.stderr
        made = (out / f"node-{HERE}.zip").read_bytes()
        digest = hashlib.sha256(made).hexdigest()
        assert f"{out}/node-{HERE}.zip  {len(made)} bytes  sha256 {digest}" in done.stdout
        hashes.add(digest)
    assert hashes == {hashlib.sha256(NODE_ZIP.read_bytes()).hexdigest()}


def test_paths_are_as_the_caller_means_them(tmp_path):
    shutil.copy(shutil.which("true"), tmp_path / "program")
    done = subprocess.run([PACKAGE, "node", "--binary", "program", "--out", "here"], cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here" / f"node-{HERE}.zip").exists()
    done = subprocess.run([PACKAGE, "check", "program"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_program_for_a_newer_system_is_refused(tmp_path):
    source = '#include <stdlib.h>\nint main(void) { return arc4random() == 1; }\n'
    try:
        program = compiled(tmp_path, source)
    except subprocess.CalledProcessError:
        pytest.skip("this glibc is older than 2.36: it makes nothing that is too new")
    done = package("check", program)
    assert done.returncode == 1
    assert "GLIBC_2.36" in done.stderr and "2.34" in done.stderr
    done = package("node", "--binary", program, "--out", tmp_path)
    assert done.returncode == 1 and not (tmp_path / f"node-{HERE}.zip").exists()
    # the same, linked statically, needs nothing
    assert package("check", compiled(tmp_path, source, "-static")).returncode == 0


def test_an_unusual_library_is_refused(tmp_path):
    library = tmp_path / "libunusual.so"
    subprocess.run(["cc", "-shared", "-x", "c", "-", "-o", library], input="int one(void) { return 1; }",
                   text=True, check=True)
    program = compiled(tmp_path, "int one(void); int main(void) { return one(); }", f"-L{tmp_path}", "-lunusual")
    done = package("check", program)
    assert done.returncode == 1 and "libunusual.so" in done.stderr


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "say node, proxy, all or check"),
    (["nodes"], "say node"),
    (["node", "proxy"], "one thing at a time"),
    (["node", "--arch"], "needs a value"),
    (["node", "--arch", "riscv"], "not riscv"),
    (["node", "--architecture", "arm64"], "unknown option"),
    (["all", "--binary", "/bin/true"], "--binary"),
    (["node", "--binary", "/nowhere"], "is not there"),
    (["check", __file__], "no program"),
    (["node", "--arch", OTHER, "--binary", "/bin/true"], f"not for {OTHER}"),
])
def test_wrong_arguments_are_named(tmp_path, arguments, words):
    done = package(*([] if "check" in arguments else ["--out", tmp_path]), *arguments)
    assert done.returncode != 0 and words in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


def test_another_architecture_needs_its_tools(tmp_path):
    # a compiler that has no library for any other machine
    rustc = tmp_path / "rustc"
    rustc.write_text(f"#!/bin/sh\necho {tmp_path}/none\n")
    rustc.chmod(0o755)
    done = package("node", "--arch", OTHER, "--out", tmp_path / "out", RUSTC=str(rustc))
    assert done.returncode == 1 and f"build on an {OTHER} machine" in done.stderr, done.stderr
    assert f"{rustc} has no standard library" in done.stderr
    assert f"libstd-rust-web-dev:{ {'arm64': 'arm64', 'x86_64': 'amd64'}[OTHER] }" in done.stderr


@pytest.fixture(scope="module")
def tarball(tmp_path_factory):
    out = tmp_path_factory.mktemp("proxy")
    program = shutil.which("true")
    done = package("proxy", "--binary", program, "--out", out)
    assert done.returncode == 0, done.stderr
    return out / f"scatterhoard-{HERE}.tar.gz"


def test_what_is_packed_with_the_proxy(tarball):
    with tarfile.open(tarball) as packed:
        modes = {entry.name: oct(entry.mode) for entry in packed if entry.isfile()}
        assert all(entry.mtime == 0 and entry.uid == 0 for entry in packed)
    assert modes == {
        "./Containerfile": "0o644",
        "./LICENSE": "0o644",
        "./scatterhoard": "0o755",
        "./scatterhoard-boot": "0o755",
        "./scatterhoard-metrics": "0o755",
        "./scatterhoard-metrics.service": "0o644",
        "./scatterhoard-metrics.timer": "0o644",
        "./scatterhoard.service": "0o644",
    }


def test_the_same_proxy_is_the_same_tarball(tarball, tmp_path):
    program = shutil.copy(shutil.which("true"), tmp_path / "program")
    os.utime(program, (1_000_000_000, 1_000_000_000))
    done = package("proxy", "--binary", program, "--out", tmp_path / "again", LC_ALL="C", TZ="Asia/Tokyo")
    assert done.returncode == 0, done.stderr
    made = (tmp_path / "again" / tarball.name).read_bytes()
    assert made == tarball.read_bytes()
    assert f"{len(made)} bytes  sha256 {hashlib.sha256(made).hexdigest()}" in done.stdout


def test_the_containerfile_copies_what_is_packed(tarball):
    with tarfile.open(tarball) as packed:
        names = packed.getnames()
        lines = packed.extractfile("./Containerfile").read().decode().splitlines()
    copied = [line.split()[1] for line in lines if line.startswith("COPY ")]
    assert "scatterhoard" in copied and {f"./{name}" for name in copied} <= set(names)


def test_systemd_understands_the_units(tarball, tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    with tarfile.open(tarball) as packed:
        packed.extractall(tmp_path, filter="data")
    # programs are where the tarball is unpacked to
    for unit in [*tmp_path.glob("*.service"), *tmp_path.glob("*.timer")]:
        unit.write_text(unit.read_text().replace("/opt/scatterhoard/", f"{tmp_path}/"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *tmp_path.glob("*.service"), *tmp_path.glob("*.timer")],
        capture_output=True, text=True,
    )
    ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "scatterhoard" in line]
    assert not ours, done.stderr


# scatterhoard-boot and scatterhoard-metrics with the real AWS CLI, at MiniStack.


def script(cloud, name, tmp_path, **environment):
    peers = pathlib.Path(os.sys.executable).parent
    return subprocess.run(
        [ROOT / "deploy/proxy" / name], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        env={**os.environ, **cloud.environment, "PATH": f"{peers}:{os.environ['PATH']}",
             "SCATTERHOARD_RUN": str(tmp_path / "run"), "SCATTERHOARD_STATE": str(tmp_path / "state"),
             **environment},
    )


def boot(cloud, tmp_path, environment={}, **settings):
    settings = {"AWS_REGION": REGION, "LINK_PORT": "7000", "SECRETS": "/scatterhoard/boot", **settings}
    file = tmp_path / "boot.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    owner = subprocess.run(["id", "-gn"], capture_output=True, text=True).stdout.strip()
    return script(cloud, "scatterhoard-boot", tmp_path, SCATTERHOARD_BOOT_ENV=str(file),
                  SCATTERHOARD_OWNER=owner, **environment)


@pytest.fixture
def parameters(cloud):
    ssm = cloud.aws("ssm")
    put = []

    def add(name, value):
        ssm.put_parameter(Name=f"/scatterhoard/boot/{name}", Value=value, Type="SecureString")
        put.append(f"/scatterhoard/boot/{name}")

    yield add
    for name in put:
        ssm.delete_parameter(Name=name)


def test_without_a_password_the_proxy_does_not_start(cloud, tmp_path):
    done = boot(cloud, tmp_path)
    assert done.returncode != 0
    assert "there is no password: aws ssm put-parameter" in done.stderr
    assert "/scatterhoard/boot/requirepass" in done.stderr
    assert not (tmp_path / "run/environment").exists()


def test_secrets_come_from_the_parameter_store(cloud, tmp_path, parameters):
    password = 'with "quotes", a \\, a $sign and a `tick`'
    parameters("requirepass", password)
    done = boot(cloud, tmp_path)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "run/environment"
    assert oct(file.stat().st_mode & 0o777) == "0o640"
    lines = file.read_text().splitlines()
    assert f"AWS_REGION={REGION}" in lines
    assert f"SCATTERHOARD_DATA_DIR={tmp_path}/state/data" in lines
    # systemd's rules for double quotes: a backslash takes the next character as it is
    (line,) = [line for line in lines if line.startswith("SCATTERHOARD_REQUIREPASS=")]
    quoted = line.removeprefix('SCATTERHOARD_REQUIREPASS="').removesuffix('"')
    unquoted, rest = "", iter(quoted)
    for character in rest:
        unquoted += next(rest) if character == "\\" else character
    assert unquoted == password
    assert password not in done.stdout + done.stderr
    assert (tmp_path / "state/data").is_dir()


def test_users_instead_of_a_password(cloud, tmp_path, parameters):
    rules = "user default off\nuser ci on >secret ~* +@all"
    parameters("users.acl", rules)
    done = boot(cloud, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/users.acl").read_text() == rules + "\n"
    assert f"SCATTERHOARD_ACL_FILE={tmp_path}/run/users.acl" in (tmp_path / "run/environment").read_text()


def test_tls_needs_certificate_and_key(cloud, tmp_path, parameters):
    parameters("requirepass", "secret")
    parameters("tls.pem", "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----")
    done = boot(cloud, tmp_path, TLS_PORT="6380")
    assert done.returncode != 0 and "/scatterhoard/boot/tls.key" in done.stderr
    parameters("tls.key", "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----")
    done = boot(cloud, tmp_path, TLS_PORT="6380")
    assert done.returncode == 0, done.stderr
    environment = (tmp_path / "run/environment").read_text()
    assert "SCATTERHOARD_TLS_LISTEN=0.0.0.0:6380\n" in environment
    assert f"SCATTERHOARD_TLS_KEY_FILE={tmp_path}/run/tls.key\n" in environment


def test_a_store_that_does_not_answer_is_no_missing_password(cloud, tmp_path):
    nobody = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}
    done = boot(cloud, tmp_path, nobody)
    assert done.returncode != 0 and "cannot read /scatterhoard/boot/requirepass" in done.stderr
    assert "there is no password" not in done.stderr


def sent(cloud, name, pool):
    import datetime

    now = datetime.datetime.now(datetime.timezone.utc)
    points = cloud.aws("cloudwatch").get_metric_statistics(
        Namespace="Scatterhoard", MetricName=name, Dimensions=[{"Name": "Pool", "Value": pool}],
        StartTime=now - datetime.timedelta(hours=1), EndTime=now + datetime.timedelta(minutes=2),
        Period=3600, Statistics=["Sum", "Maximum", "Minimum"],
    )["Datapoints"]
    return points[0] if points else None


def test_metrics_of_a_running_proxy(cloud, proxy, tmp_path):
    (tmp_path / "state").mkdir()
    environment = {"POOL": "metered", "ADMIN": f"http://127.0.0.1:{proxy.admin_port}"}
    with proxy.client() as client:
        client.set("key", b"x" * 3_000_000)
        client.get("key")
        client.get("none")
        done = script(cloud, "scatterhoard-metrics", tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        client.get("none")
        client.get("none")
        done = script(cloud, "scatterhoard-metrics", tmp_path, **environment)
        assert done.returncode == 0, done.stderr
    assert sent(cloud, "Healthy", "metered")["Minimum"] == 1
    assert sent(cloud, "Keys", "metered")["Maximum"] == 1
    assert sent(cloud, "Hits", "metered")["Sum"] == 1
    # one the first time, two more the second
    assert sent(cloud, "Misses", "metered")["Sum"] == 3
    assert 0 < sent(cloud, "MemoryUsed", "metered")["Maximum"] < 100
    assert 0 < sent(cloud, "DiskUsed", "metered")["Maximum"] <= 100
    assert sent(cloud, "JournalErrors", "metered")["Sum"] == 0


class Page(http.server.BaseHTTPRequestHandler):
    """The admin port of a proxy that says whatever a test wants."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.page.encode() if self.path == "/metrics" else b"ok")

    def log_message(self, *_):
        pass


@pytest.fixture
def admin():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def causes():
    """Why a function is not run, as the proxy names it."""
    text = (ROOT / "proxy/src/pool/platform/errors.rs").read_text()
    return re.findall(r'^    [A-Z]\w+: "([a-z0-9_]+)",', text, re.MULTILINE)


def test_refusals_are_counted_by_who_must_do_something(cloud, admin, tmp_path):
    (tmp_path / "state").mkdir()
    throttled = {"function_concurrency", "function_rate", "account_concurrency", "caller_rate", "snapshot_rate", "throttled"}
    passing = {"not_ready", "ec2_throttled", "ec2_failed", "service", "unreachable", "unresolved"}
    assert throttled | passing < set(causes()) and len(causes()) == len(set(causes()))
    admin.page = "".join(
        f'scatterhoard_invoke_refusals_total{{cause="{cause}"}} {1000 if cause in passing else 1}\n' for cause in causes()
    )
    environment = {"POOL": "refusing", "ADMIN": f"http://127.0.0.1:{admin.server_port}"}
    done = script(cloud, "scatterhoard-metrics", tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert sent(cloud, "Throttled", "refusing")["Sum"] == len(throttled)
    assert sent(cloud, "Refused", "refusing")["Sum"] == len(set(causes()) - throttled - passing)
    assert sent(cloud, "Outage", "refusing")["Maximum"] == 0


def test_an_outage_is_told(cloud, admin, tmp_path):
    (tmp_path / "state").mkdir()
    admin.page = "# TYPE scatterhoard_outage gauge\nscatterhoard_outage 1\n"
    environment = {"POOL": "out", "ADMIN": f"http://127.0.0.1:{admin.server_port}"}
    done = script(cloud, "scatterhoard-metrics", tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert sent(cloud, "Outage", "out")["Maximum"] == 1


def test_what_is_sent_is_what_the_module_watches(cloud, proxy, tmp_path):
    """The module counts and pictures them; an alarm on what nobody sends never goes off."""
    (tmp_path / "state").mkdir()
    done = script(cloud, "scatterhoard-metrics", tmp_path, POOL="listed", ADMIN=f"http://127.0.0.1:{proxy.admin_port}")
    assert done.returncode == 0, done.stderr
    listed = cloud.aws("cloudwatch").list_metrics(
        Namespace="Scatterhoard", Dimensions=[{"Name": "Pool", "Value": "listed"}])["Metrics"]
    text = (ROOT / "deploy/terraform/modules/watch/dashboard.tf").read_text()
    (names,) = re.findall(r"sent = concat\(\n    \[(.*)\],", text)
    assert {metric["MetricName"] for metric in listed} == set(re.findall(r'"(\w+)"', names))


def test_a_proxy_that_is_down_is_told(cloud, tmp_path):
    (tmp_path / "state").mkdir()
    done = script(cloud, "scatterhoard-metrics", tmp_path, POOL="down", ADMIN="http://127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    assert sent(cloud, "Healthy", "down")["Maximum"] == 0
    assert sent(cloud, "Keys", "down") is None
