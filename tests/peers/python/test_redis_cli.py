"""redis-cli and redis-benchmark against the real binary."""

import random
import subprocess

from resp import encode


def cli(pool, *arguments, stdin=b"", options=()):
    done = subprocess.run(
        ["redis-cli", "-h", "127.0.0.1", "-p", str(pool.port), *options, *arguments],
        input=stdin, capture_output=True, timeout=120,
    )
    assert done.returncode == 0, done
    return done.stdout


def test_ten_mb_from_stdin_and_to_a_file(pool, client, tmp_path):
    body = random.Random(1).randbytes(10_000_000)
    assert cli(pool, "-x", "SET", "ten-mb", stdin=body) == b"OK\n"
    out = tmp_path / "out"
    with open(out, "wb") as file:
        subprocess.run(
            ["redis-cli", "-h", "127.0.0.1", "-p", str(pool.port), "--raw", "GET", "ten-mb"],
            stdout=file, check=True, timeout=120,
        )
    # redis-cli ends a raw reply with a line break.
    assert out.read_bytes() == body + b"\n"
    assert client.get("ten-mb") == body


def test_mass_insertion_with_pipe(pool, client):
    rng = random.Random(2)
    objects = {b"pipe:%d" % i: rng.randbytes(rng.choice([1, 100, 9_000])) for i in range(2_000)}
    commands = b"".join(encode("SET", key, body) for key, body in objects.items())
    said = cli(pool, "--pipe", stdin=commands)
    assert b"errors: 0, replies: 2000" in said, said
    assert client.mget(list(objects)) == list(objects.values())


def test_interactive_commands_from_stdin(pool, client):
    script = b'SET k "hello world"\nGET k\nTTL k\nDEL k\nGET k\nSET k\n'
    said = cli(pool, stdin=script)
    assert said == (
        b'OK\nhello world\n-1\n1\n\nERR wrong number of arguments for \'set\' command\n\n'
    ), said


def test_scan_and_resp3(pool, client):
    for index in range(100):
        client.set(f"k{index}", index)
    assert sorted(cli(pool, "--scan").split()) == sorted(b"k%d" % i for i in range(100))
    assert cli(pool, "GET", "k7", options=["-3"]) == b"7\n"
    assert b"redis_version" in cli(pool, "INFO", "server")


def test_redis_benchmark_runs(pool, client):
    done = subprocess.run(
        ["redis-benchmark", "-h", "127.0.0.1", "-p", str(pool.port), "-t", "set,get", "-n", "2000",
         "-c", "10", "-P", "4", "-d", "1000", "-q"],
        capture_output=True, timeout=120,
    )
    assert done.returncode == 0, done
    assert b"SET:" in done.stdout and b"GET:" in done.stdout, done
    assert b"rror" not in done.stdout.replace(b"ERROR: failed to fetch CONFIG", b""), done.stdout
