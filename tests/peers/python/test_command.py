"""COMMAND GETKEYS, GETKEYSANDFLAGS and CLIENT UNBLOCK: the same of every command of both servers."""

import pytest

from resp import Raw, encode

# Arguments of any command, of which it gets none, one, ... and all.
ARGUMENTS = [
    ["a", "b", "c", "d", "e", "f"],
    ["1", "a", "b", "c"],
    ["x", "2", "a", "b", "c"],
    ["x", "0", "a"],
    ["x", "9", "a", "b"],
    ["x", "-1", "a"],
    ["x", "9223372036854775807", "a"],
    ["k", "v", "GET"],
    ["k", "v", "EX", "get", "nx"],
    ["k", "get", "u8", "0", "OVERFLOW", "wrap", "GET", "u8", "1"],
    ["k", "GET", "u8", "0", "INCRBY", "u8", "0", "1"],
    ["k", "SET", "u8", "0", "1"],
    ["k", "OVERFLOW"],
    ["AND", b"\xff\0", "", "c"],
]


def names(server):
    # redis-py takes it for a reply to COMMAND
    with Raw(server) as connection:
        return set(connection.call("COMMAND", "LIST").split(b"\r\n")[2::2])


@pytest.mark.parametrize("protocol", [2, 3])
def test_keys_and_flags_of_every_command(redis_server, pool, protocol):
    both = sorted(names(redis_server) & names(pool))
    assert len(both) > 150
    wrong, with_keys = [], 0
    with Raw(redis_server) as oracle, Raw(pool) as subject:
        assert oracle.call("HELLO", protocol)[:1] == subject.call("HELLO", protocol)[:1]
        for name in [*both, b"nosuch", b"client|nosuch", b"nosuch|command"]:
            requests = [["COMMAND", kind, *name.split(b"|"), *arguments[:count]]
                        for kind in ["GETKEYS", "GETKEYSANDFLAGS"]
                        for arguments in ARGUMENTS for count in range(len(arguments) + 1)]
            for server in [oracle, subject]:
                server.send(b"".join(encode(*request) for request in requests))
            for request in requests:
                theirs, ours = oracle.reply(), subject.reply()
                with_keys += theirs[:1] == b"*"
                if theirs != ours:
                    wrong.append((request, theirs, ours))
    assert not wrong, f"{len(wrong)} differ, the first: {wrong[:5]}"
    assert with_keys > 1_000


def test_nobody_is_to_be_unblocked(redis_server, pool):
    requests = [["0"], ["1"], ["-1"], ["999999999"], ["x"], [""], ["99999999999999999999"], ["1", "TIMEOUT"],
                ["1", "error"], ["1", "nosuch"], ["x", "nosuch"], ["x", "error"], [], ["1", "error", "x"]]
    with Raw(redis_server) as oracle, Raw(pool) as subject:
        for request in requests:
            theirs, ours = (server.call("CLIENT", "UNBLOCK", *request) for server in (oracle, subject))
            assert ours == theirs, request


def test_who_waits_for_the_end_of_a_pause_goes_on_waiting(pool):
    """redis-server 7.0.15 ends with an assertion when it is asked to; later ones answer so."""
    with Raw(pool) as paused, Raw(pool) as asking:
        number = int(paused.call("CLIENT", "ID")[1:])
        assert asking.call("CLIENT", "PAUSE", 60_000, "WRITE") == b"+OK\r\n"
        paused.send(b"SET k v\r\n")
        assert asking.call("CLIENT", "UNBLOCK", number) == b":0\r\n"
        assert asking.call("CLIENT", "UNBLOCK", number, "ERROR") == b":0\r\n"
        assert asking.call("CLIENT", "UNPAUSE") == b"+OK\r\n"
        assert paused.reply() == b"+OK\r\n"
