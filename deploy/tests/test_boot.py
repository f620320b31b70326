"""scatterhoard-boot, which runs before each start of the proxy: what it does to a machine.

What would change this machine is played by a script on PATH that notes each call; `blkid`, `curl`
and the tools for text are the real ones unless a test says otherwise. The real AWS CLI: test_package.py.
"""

import http.server
import os
import shutil
import subprocess
import threading

import pytest

from emulators import ROOT

VOLUME = "vol-0123456789abcdef0"
DEVICE = "nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0"
MAC = "0e:00:00:00:00:01"
PLAYED = ("aws", "ip", "journalctl", "mkfs.xfs", "mount", "mountpoint", "sleep", "systemctl", "xfs_growfs")

# One script for all: notes its name and arguments, then does what the test wants of it.
PLAYER = """#!/usr/bin/env bash
name=${0##*/}
echo "$name $*" >>"$PLAY/calls"
if [[ -e $PLAY/$name ]]; then . "$PLAY/$name"; fi
"""

APPEARS = 'truncate --size 100M "$PLAY/devices/%s"\n' % DEVICE


class Metadata(http.server.BaseHTTPRequestHandler):
    """The instance metadata service, version 2: no token, no answer."""

    def do_PUT(self):
        self.server.asked += 1
        if self.server.asked <= self.server.refusals:
            return self.answer(503, "")
        assert self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self.answer(200, "token")

    def do_GET(self):
        if self.headers["X-aws-ec2-metadata-token"] != "token":
            return self.answer(401, "")
        values = {"mac": MAC, f"network/interfaces/macs/{MAC}/interface-id": "eni-1", "instance-id": "i-1"}
        self.answer(200, values[self.path.removeprefix("/latest/meta-data/")])

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


class Machine:
    """A machine that has just started: nothing is mounted, and the volume attaches at once."""

    def __init__(self, folder):
        self.folder = folder
        self.play = folder / "play"
        self.state, self.run, self.log = folder / "state", folder / "run", folder / "system-log"
        self.device = self.play / "devices" / DEVICE
        (self.play / "bin").mkdir(parents=True)
        self.device.parent.mkdir()
        for name in PLAYED:
            self.plays(name)
        self.does("mountpoint", "exit 32")
        self.does("ip", f'if [[ "$*" == "-o link" ]]; then echo "2: ens5: <UP> link/ether {MAC} brd"; fi')
        self.attaches(APPEARS)
        self.service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
        self.service.asked = self.service.refusals = 0
        threading.Thread(target=self.service.serve_forever, daemon=True).start()
        self.settings = {"AWS_REGION": "us-east-1", "VOLUME": VOLUME, "ADDRESS": "10.87.0.13", "LINK_PORT": "7000"}
        self.parameters = {}

    def plays(self, name):
        path = self.play / "bin" / name
        path.write_text(PLAYER)
        path.chmod(0o755)

    def does(self, name, script):
        """What a played program does."""
        (self.play / name).write_text(script)

    def attaches(self, script):
        """What comes of attaching the volume."""
        self.does("aws", f"""
case "$1 $2" in
"ec2 attach-volume") {script} ;;
"ssm get-parameter")
    while [[ $1 != --name ]]; do shift; done
    if [[ -e $PLAY/parameters$2 ]]; then cat "$PLAY/parameters$2"
    else echo "An error occurred (ParameterNotFound)" >&2; exit 254; fi ;;
esac
""")

    def calls(self, name):
        lines = (self.play / "calls").read_text().splitlines() if (self.play / "calls").exists() else []
        return [line.removeprefix(name + " ") for line in lines if line.startswith(name + " ")]

    def parameter(self, name, value):
        file = self.play / ("parameters" + name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value)

    def boot(self, **environment):
        env_file = self.folder / "boot.env"
        env_file.write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))
        group = subprocess.run(["id", "-gn"], capture_output=True, text=True).stdout.strip()
        return subprocess.run(
            [ROOT / "deploy/proxy/scatterhoard-boot"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=120,
            env={
                **os.environ,
                "PATH": f"{self.play}/bin:{os.environ['PATH']}",
                "PLAY": str(self.play),
                "SCATTERHOARD_BOOT_ENV": str(env_file),
                "SCATTERHOARD_STATE": str(self.state),
                "SCATTERHOARD_RUN": str(self.run),
                "SCATTERHOARD_DEVICES": str(self.play / "devices"),
                "SCATTERHOARD_SYSTEM_LOG": str(self.log),
                "SCATTERHOARD_METADATA": f"http://127.0.0.1:{self.service.server_port}",
                "SCATTERHOARD_OWNER": group,
                "NO_PROXY": "127.0.0.1",
                **environment,
            },
        )


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    made.service.shutdown()
    made.service.server_close()


def test_a_new_volume_is_formatted_and_mounted(machine):
    done = machine.boot()
    assert done.returncode == 0, done.stderr
    assert machine.calls("aws")[0] == f"ec2 attach-volume --volume-id {VOLUME} --instance-id i-1 --device /dev/sdf"
    assert machine.calls("mkfs.xfs") == [f"-q {machine.device}"]
    assert machine.calls("mount") == [f"-o noatime {machine.device} {machine.state}", f"--bind {machine.state}/log {machine.log}"]
    assert machine.calls("xfs_growfs") == [str(machine.state)]
    assert machine.calls("systemctl") == ["restart systemd-journald"]
    assert (machine.state / "data").is_dir()


def test_the_address_comes_after_the_volume(machine):
    done = machine.boot()
    assert done.returncode == 0, done.stderr
    assert [call.split()[1] for call in machine.calls("aws")] == ["attach-volume", "assign-private-ip-addresses"]
    assert "--network-interface-id eni-1 --private-ip-addresses 10.87.0.13 --allow-reassignment" in machine.calls("aws")[1]
    assert machine.calls("ip")[-1] == "address add 10.87.0.13/32 dev ens5"
    assert "SCATTERHOARD_LINK_ADVERTISE=10.87.0.13:7000" in (machine.run / "environment").read_text()


def test_an_address_that_is_there_is_not_added(machine):
    machine.does("ip", f"""
case "$*" in
"-o link") echo "2: ens5: <UP> link/ether {MAC} brd" ;;
"-o address"*) echo "2: ens5 inet 10.87.0.13/32 scope global ens5" ;;
esac
""")
    done = machine.boot()
    assert done.returncode == 0, done.stderr
    assert not [call for call in machine.calls("ip") if call.startswith("address add")]


def test_no_card_of_that_name(machine):
    machine.does("ip", 'if [[ "$*" == "-o link" ]]; then echo "1: lo: <UP> link/loopback 00:00:00:00:00:00"; fi')
    done = machine.boot()
    assert done.returncode != 0 and f"no network device has the address {MAC}" in done.stderr


@pytest.mark.skipif(not shutil.which("mkswap"), reason="mkswap is not installed")
def test_a_volume_with_something_on_it_is_only_mounted(machine):
    with machine.device.open("wb") as file:
        file.truncate(100 << 20)
    # a signature that blkid knows, without the tools of a file system
    subprocess.run(["mkswap", machine.device], check=True, capture_output=True)
    done = machine.boot()
    assert done.returncode == 0, done.stderr
    assert machine.calls("mkfs.xfs") == []
    assert machine.calls("mount")[0].startswith("-o noatime")
    assert not [call for call in machine.calls("aws") if "attach-volume" in call]


@pytest.mark.parametrize("where", [0, 4096, 40 << 20], ids=["first_byte", "second_page", "40_mb"])
def test_what_blkid_does_not_know_is_not_formatted(machine, where):
    with machine.device.open("wb") as file:
        file.truncate(100 << 20)
        file.seek(where)
        file.write(b"\x01 perhaps a journal")
    done = machine.boot()
    assert done.returncode != 0
    assert f"{VOLUME} has no file system that blkid knows" in done.stderr and "mkfs.xfs -f" in done.stderr
    assert machine.calls("mkfs.xfs") == [] and machine.calls("mount") == []


@pytest.mark.parametrize("code", [4, 8])
def test_when_blkid_cannot_tell_nothing_is_formatted(machine, code):
    machine.plays("blkid")
    machine.does("blkid", f"exit {code}")
    done = machine.boot()
    assert done.returncode != 0 and f"blkid says {code}" in done.stderr
    assert machine.calls("mkfs.xfs") == [] and machine.calls("mount") == []


def test_a_volume_that_cannot_be_read_is_not_formatted(machine):
    machine.plays("blkid")
    machine.does("blkid", "exit 2")
    machine.plays("head")
    machine.does("head", "echo 'Input/output error' >&2; exit 1")
    done = machine.boot()
    assert done.returncode != 0 and f"cannot read {machine.device}" in done.stderr
    assert machine.calls("mkfs.xfs") == [] and machine.calls("mount") == []


def test_a_volume_that_does_not_mount_stops_the_start(machine):
    machine.does("mount", "echo 'mount: structure needs cleaning' >&2; exit 32")
    done = machine.boot()
    assert done.returncode != 0 and "structure needs cleaning" in done.stderr
    # nor does this machine take the address
    assert not [call for call in machine.calls("aws") if "assign-private" in call]
    assert not (machine.run / "environment").exists()


def test_a_second_start_leaves_the_volume_as_it_is(machine):
    machine.does("mountpoint", "exit 0")
    done = machine.boot()
    assert done.returncode == 0, done.stderr
    assert not [call for call in machine.calls("aws") if "attach-volume" in call]
    assert machine.calls("mount") == [] and machine.calls("mkfs.xfs") == []


@pytest.mark.parametrize("error", ["VolumeInUse", "IncorrectState"])
def test_it_waits_for_the_machine_before(machine, error):
    machine.attaches(f"""
if (($(grep -c attach-volume "$PLAY/calls") < 4)); then echo "An error occurred ({error})" >&2; exit 254; fi
{APPEARS}""")
    done = machine.boot()
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("still attached elsewhere") == 3
    assert machine.calls("sleep") == ["10"] * 3
    assert len(machine.calls("mount")) == 2


def test_a_volume_that_nobody_gives_away(machine):
    machine.attaches('echo "An error occurred (VolumeInUse)" >&2; exit 254')
    done = machine.boot()
    assert done.returncode != 0 and f"{VOLUME} is not free. Is another proxy of this pool running?" in done.stderr
    # within the 900 s of the unit
    assert sum(map(float, machine.calls("sleep"))) == 800
    assert machine.calls("mount") == [] and not [call for call in machine.calls("aws") if "assign-private" in call]


def test_a_right_that_lacks_is_not_waited_for(machine):
    machine.attaches('echo "An error occurred (UnauthorizedOperation)" >&2; exit 254')
    done = machine.boot()
    assert done.returncode != 0 and f"cannot attach {VOLUME}: An error occurred (UnauthorizedOperation)" in done.stderr
    assert machine.calls("sleep") == []


def test_the_device_comes_later(machine):
    machine.attaches(":")
    machine.does("sleep", f'if (($(grep -c "^sleep" "$PLAY/calls") == 5)); then {APPEARS.strip()}; fi')
    done = machine.boot()
    assert done.returncode == 0, done.stderr
    assert machine.calls("sleep") == ["1"] * 5
    assert len(machine.calls("mkfs.xfs")) == 1


def test_the_device_never_comes(machine):
    machine.attaches(":")
    done = machine.boot()
    assert done.returncode != 0 and f"{VOLUME} was attached, but {machine.device} does not appear" in done.stderr
    assert machine.calls("mkfs.xfs") == []


def test_metadata_that_come_late(machine):
    machine.service.refusals = 2
    done = machine.boot()
    assert done.returncode == 0, done.stderr
    assert machine.service.asked == 2 + 3


def test_no_metadata_at_all(machine):
    machine.plays("curl")
    machine.does("curl", "echo 'curl: (28) Operation timed out' >&2; exit 28")
    done = machine.boot()
    assert done.returncode != 0 and "Operation timed out" in done.stderr
    # without a token nothing else is asked
    assert len(machine.calls("curl")) == 1 and "--max-time 5" in machine.calls("curl")[0]
    assert machine.calls("aws") == [] and machine.calls("mount") == []


def test_settings_are_fetched_at_each_start(machine):
    machine.settings["CONFIG"] = "/scatterhoard/builds/scatterhoard.toml"
    for nodes in (7, 9):
        machine.parameter("/scatterhoard/builds/scatterhoard.toml", f'nodes = {nodes}\nack = "quorum"\n')
        done = machine.boot()
        assert done.returncode == 0, done.stderr
        file = machine.run / "scatterhoard.toml"
        assert file.read_text() == f'nodes = {nodes}\nack = "quorum"\n'
        assert oct(file.stat().st_mode & 0o777) == "0o640"
        assert f"SCATTERHOARD_CONFIG={file}\n" in (machine.run / "environment").read_text()


def test_without_its_settings_the_proxy_does_not_start(machine):
    machine.settings["CONFIG"] = "/scatterhoard/builds/scatterhoard.toml"
    done = machine.boot()
    assert done.returncode != 0
    assert "there are no settings: /scatterhoard/builds/scatterhoard.toml is missing" in done.stderr
    assert not (machine.run / "environment").exists()


def test_a_secret_that_is_missing(machine):
    machine.settings["SECRETS"] = "/scatterhoard/builds"
    done = machine.boot()
    assert done.returncode != 0 and "there is no password" in done.stderr
    assert "--name /scatterhoard/builds/requirepass" in done.stderr
    machine.parameter("/scatterhoard/builds/requirepass", "secret")
    done = machine.boot()
    assert done.returncode == 0, done.stderr
    assert 'SCATTERHOARD_REQUIREPASS="secret"\n' in (machine.run / "environment").read_text()


def test_the_unit_starts_what_was_fetched():
    """Settings come by the environment: what boot says goes before the file of the unit."""
    lines = (ROOT / "deploy/proxy/scatterhoard.service").read_text().splitlines()
    assert "Environment=SCATTERHOARD_CONFIG=/etc/scatterhoard/scatterhoard.toml" in lines
    assert "EnvironmentFile=-/run/scatterhoard/environment" in lines
    (start,) = [line for line in lines if line.startswith("ExecStart=")]
    assert "--config" not in start
    (limit,) = [int(line.split("=")[1]) for line in lines if line.startswith("TimeoutStartSec=")]
    assert limit > 800
