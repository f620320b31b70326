"""A raw socket that speaks RESP: sends anything, returns replies as the bytes on the wire."""

import socket


def encode(*arguments):
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        if isinstance(argument, str):
            argument = argument.encode()
        elif isinstance(argument, int):
            argument = b"%d" % argument
        parts.append(b"$%d\r\n%s\r\n" % (len(argument), argument))
    return b"".join(parts)


class Raw:
    def __init__(self, server, timeout=60):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def call(self, *arguments):
        self.send(encode(*arguments))
        return self.reply()

    def reply(self):
        """One whole reply, nested ones included, exactly as sent."""
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError(f"the server closed the connection after {line!r}")
        kind, count = line[:1], line[1:-2]
        if kind in b"$=!" and count != b"-1":
            return line + self._exactly(int(count) + 2)
        if kind in b"*~>" and count != b"-1":
            return line + b"".join(self.reply() for _ in range(int(count)))
        if kind == b"%":
            return line + b"".join(self.reply() for _ in range(2 * int(count)))
        return line

    def rest(self):
        """Everything until the server closes the connection, however it does so."""
        data = b""
        try:
            while piece := self.file.read1(65_536):
                data += piece
        except ConnectionResetError:
            pass
        return data

    def _exactly(self, count):
        data = self.file.read(count)
        if len(data) != count:
            raise EOFError(f"the server closed the connection {count - len(data)} bytes early")
        return data
