"""What clients do to a socket: cut, dribble, pipeline, and send nonsense."""

import random
import socket
import struct
import threading
import time

import pytest

from resp import Raw, encode
from servers import Scatterhoard


def test_a_client_that_goes_mid_body_changes_nothing(pool, client):
    client.set("k", b"old")
    whole = encode("SET", "k", bytes(5_000_000))
    rng = random.Random(1)
    for hard in (False, True):
        for _ in range(10):
            with Raw(pool) as raw:
                raw.send(whole[: rng.randrange(1, len(whole) - 1)])
                if hard:  # a reset instead of an orderly end
                    linger = struct.pack("ii", 1, 0)
                    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            assert client.get("k") == b"old"
    client.set("k", b"new")
    assert client.get("k") == b"new"


def test_a_client_that_goes_mid_reply_disturbs_nobody(pool, client):
    body = random.Random(2).randbytes(8_000_000)
    client.set("k", body)
    for _ in range(10):
        with Raw(pool) as raw:
            raw.send(encode("GET", "k"))
            raw.socket.recv(1_000)
    assert client.get("k") == body


def test_commands_in_pieces(either):
    with Raw(either) as raw:
        for byte in encode("SET", "key", "value") + b"PING\r\n" + encode("GET", "key"):
            raw.send(bytes([byte]))
        assert [raw.reply() for _ in range(3)] == [b"+OK\r\n", b"+PONG\r\n", b"$5\r\nvalue\r\n"]


def test_a_half_command_holds_up_nobody_else(pool, client):
    with Raw(pool) as half:
        half.send(encode("SET", "k", b"x" * 100_000)[:50_000])
        started = time.monotonic()
        for index in range(50):
            client.set("other", b"%d" % index)
            assert client.get("other") == b"%d" % index
        assert time.monotonic() - started < 10
        assert client.get("k") is None
        half.send(encode("SET", "k", b"x" * 100_000)[50_000:])
        assert half.reply() == b"+OK\r\n"
    assert client.get("k") == b"x" * 100_000


def test_pipelines_answer_in_order(either):
    """Slow and fast commands mixed: replies keep the order of the requests."""
    rng = random.Random(3)
    commands, expected, state = [], [], {}
    for index in range(1_500):
        key = b"p%d" % rng.randrange(40)
        match rng.randrange(5):
            case 0:
                state[key] = rng.randbytes(rng.choice([1, 50, 5_000, 200_000]))
                commands.append(encode("SET", key, state[key]))
                expected.append(b"+OK\r\n")
            case 1 | 2:
                body = state.get(key)
                commands.append(encode("GET", key))
                expected.append(b"$-1\r\n" if body is None else b"$%d\r\n%s\r\n" % (len(body), body))
            case 3:
                commands.append(encode("DEL", key))
                expected.append(b":%d\r\n" % (state.pop(key, None) is not None))
            case _:
                commands.append(encode("ECHO", index))
                expected.append(b"$%d\r\n%d\r\n" % (len(str(index)), index))
    with Raw(either) as raw:
        # Read while sending: both directions hold more than the sockets' buffers.
        writer = threading.Thread(target=raw.send, args=(b"".join(commands),), daemon=True)
        writer.start()
        for index, want in enumerate(expected):
            got = raw.reply()
            assert got == want, f"reply {index}: {got[:80]!r} instead of {want[:80]!r}"
        writer.join(60)


PROTOCOL_ERRORS = {
    "negative bulk": b"*2\r\n$3\r\nGET\r\n$-5\r\n",
    "absurd bulk": b"*2\r\n$3\r\nGET\r\n$99999999999\r\n",
    "bulk is no number": b"*2\r\n$3\r\nGET\r\n$abc\r\n",
    "absurd count": b"*3000000000\r\n",
    "count is no number": b"*x\r\n",
    "count overflows": b"*99999999999999999999999\r\n",
    "not a bulk": b"*1\r\n+PING\r\n",
    "nested array": b"*1\r\n*1\r\n$4\r\nPING\r\n",
    "integer argument": b"*2\r\n$3\r\nGET\r\n:1\r\n",
    "open quotes inline": b'SET k "value\r\n',
    "endless line": b"A" * 65_537,
}
HARMLESS = {
    "inline": b"SET inline value\r\nGET inline\r\n",
    "inline quotes": b'SET inline "a b\\x41\\n"\r\nGET inline\r\n',
    "inline newline only": b"PING\n\n\r\nPING\r\n",
    "no arguments": b"*0\r\nPING\r\n",
    "negative count": b"*-1\r\nPING\r\n",
    "empty command": b"*1\r\n$0\r\n\r\nPING\r\n",
    "long unknown command": encode(b"X" * 300, b"y" * 300) + b"PING\r\n",
    "unknown with line break": encode(b"no\r\nsuch", b"a\r\nb") + b"PING\r\n",
}


@pytest.mark.parametrize("case", PROTOCOL_ERRORS)
def test_protocol_errors_read_like_those_of_redis(case, redis_server, pool):
    answers = []
    for server in (redis_server, pool):
        with Raw(server, timeout=20) as raw:
            raw.send(PROTOCOL_ERRORS[case])
            answers.append(raw.rest())
    assert answers[1] == answers[0]
    assert answers[0].startswith(b"-ERR Protocol error")


@pytest.mark.parametrize("case", HARMLESS)
def test_odd_but_legal_input(case, redis_server, pool):
    answers = []
    for server in (redis_server, pool):
        with Raw(server, timeout=20) as raw:
            raw.send(HARMLESS[case] + b"QUIT\r\n")
            answers.append(raw.rest())
    assert answers[1] == answers[0]


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


ABSURD = {
    "deep nesting": b"*1\r\n" * 200_000,
    "more arguments than memory": b"*2147483647\r\n",
    "many announced arguments": b"*1048576\r\n" + b"$1\r\na\r\n" * 1_000,
    "a body that never comes": b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nabc",
}


@pytest.mark.parametrize("case", ABSURD)
def test_absurd_announcements_cost_nothing(case, pool, client):
    """Nothing is set aside for bytes that were only announced, and nobody else notices."""
    before = rss_kib(pool.process.pid)
    openings = [Raw(pool) for _ in range(20)]
    for raw in openings:
        try:
            raw.send(ABSURD[case])
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before the end
    client.set("k", b"x" * 100_000)
    assert client.get("k") == b"x" * 100_000
    assert rss_kib(pool.process.pid) - before < 256 * 1_024
    for raw in openings:
        raw.close()
    assert client.get("k") == b"x" * 100_000


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_values_up_to_the_limit_of_512_mb():
    limit = 512 << 20
    block = random.Random(6).randbytes(1 << 20)
    server = Scatterhoard(node_memory_mb=512)
    try:
        with Raw(server, timeout=300) as raw:
            raw.send(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n" % limit)
            for _ in range(limit // len(block)):
                raw.send(block)
            raw.send(b"\r\n")
            assert raw.reply() == b"+OK\r\n"
            raw.send(encode("GET", "big"))
            assert raw.file.readline() == b"$%d\r\n" % limit
            for number in range(limit // len(block)):
                assert raw.file.read(len(block)) == block, f"MiB {number} differs"
            assert raw.file.read(2) == b"\r\n"
        with Raw(server, timeout=30) as raw:
            raw.send(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n" % (limit + 1))
            assert raw.rest() == b"-ERR Protocol error: invalid bulk length\r\n"
        with server.client() as client:
            assert client.strlen("big") == limit
    finally:
        server.stop()


def test_port_0_is_a_free_port_and_the_ready_line_names_it():
    server = Scatterhoard(port=0)
    try:
        with server.client() as client:
            assert server.port != 0 and client.ping()
    finally:
        server.stop()
