#!/usr/bin/env python3
"""Calls the example provider of msnb from Python, using only the standard library.

The client was written from docs/PROTOCOL.md alone. Start a provider (cargo run --bin provider), then:

    python3 examples/python/client.py 127.0.0.1:7788
"""

import argparse
import json
import socket
import struct
import sys
import time

HEADER = struct.Struct(">4sBIBBBI")  # magic, version, full length, type, codec, compress, request id
REQUEST, RESPONSE, PING, PONG, GOAWAY = 1, 2, 3, 4, 6
ROUTE, TIMEOUT, STATUS = 1, 2, 5
JSON, APPLICATION, MAX_FRAME = 3, 32, 8 << 20
CODES = ("OK Cancelled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted "
         "FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated").split()


class ProtocolError(Exception):
    """The peer violated the protocol."""


class StatusError(Exception):
    """An error of the framework: a code and a message."""


class ApplicationError(Exception):
    """An application error: its value."""


class Client:
    """A connection with one call at a time."""

    def __init__(self, host, port, timeout):
        self.timeout, self.last_id = timeout, 0
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, route, **arguments):
        """Calls a method and returns its result or raises its error."""
        number = self.request(route, arguments)
        return json.loads(self.payload_of(self.receive((RESPONSE,), number)[1]))

    def request(self, route, arguments, *entries):
        """Sends a request and returns its id."""
        entries = ((ROUTE, route.encode()), (TIMEOUT, struct.pack(">I", int(self.timeout * 1000))), *entries)
        head = b"".join(struct.pack(">BH", tag, len(value)) + value for tag, value in entries)
        self.last_id += 1
        self.send(REQUEST, JSON, self.last_id, struct.pack(">H", len(head)) + head + json.dumps(arguments).encode())
        return self.last_id

    def payload_of(self, body):
        """Returns the payload of a response with code 0 or raises its error."""
        code, message, payload = self.read_response(body)
        if code == APPLICATION:
            raise ApplicationError(json.loads(payload))
        if code != 0:
            raise StatusError(f"{CODES[code] if code < len(CODES) else 'Unknown'}: {message}")
        return payload

    def ping(self):
        """Sends a ping and waits for the pong."""
        self.send(PING, 0, 7)
        self.receive((PONG,), 7)

    def send(self, kind, codec, number, body=b""):
        self.socket.settimeout(self.timeout)
        self.socket.sendall(HEADER.pack(b"msnb", 1, HEADER.size + len(body), kind, codec, 0, number) + body)

    def receive(self, wanted, wanted_id):
        """Returns the type and body of the next frame of these types with this id; answers or skips others meanwhile."""
        deadline = time.monotonic() + self.timeout
        while True:
            magic, version, length, kind, _, compress, number = HEADER.unpack(self.read(HEADER.size, deadline))
            if magic != b"msnb" or version != 1 or not HEADER.size <= length <= MAX_FRAME:
                raise ProtocolError(f"invalid frame header: magic {magic!r}, version {version}, length {length}")
            body = self.read(length - HEADER.size, deadline)
            if kind in wanted and number == wanted_id:
                if compress != 0:
                    raise ProtocolError("the response is compressed although the request was not")
                return kind, body
            if kind == PING:
                self.send(PONG, 0, number)
            elif kind == GOAWAY:
                raise StatusError("Unavailable: the server accepts no new calls")
            elif kind == 0 or 13 <= kind <= 63 or kind >= 128:
                raise ProtocolError(f"unexpected frame type {kind}")

    def read(self, count, deadline):
        parts = []
        while count > 0:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            part = self.socket.recv(min(count, 1 << 16))
            if not part:
                raise ConnectionError("the server closed the connection")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    @staticmethod
    def read_response(body):
        """Returns the code, the message and the payload of a response."""
        try:
            end = 2 + struct.unpack_from(">H", body)[0]
            at, code, message = 2, 0, ""
            while at < end:
                tag, length = struct.unpack_from(">BH", body, at)
                value, at = body[at + 3:at + 3 + length], at + 3 + length
                if tag == STATUS:
                    code, message = value[0], value[1:].decode()
                elif tag % 2 == 1:
                    raise StatusError(f"Unimplemented: unknown mandatory head tag {tag}")
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise ProtocolError(f"malformed response head: {error}") from error
        if at != end or end > len(body):
            raise ProtocolError("response head is longer than the frame")
        return code, message, body[end:]


def show(title, call):
    """Makes a call and prints its result or error."""
    try:
        print(f"{title}: {json.dumps(call(), ensure_ascii=False)}")
    except ApplicationError as error:
        print(f"{title}: application error {json.dumps(error.args[0])}")
    except StatusError as error:
        print(f"{title}: {error}")


def address(text):
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def main():
    parser = argparse.ArgumentParser(
        description="Calls the example provider of msnb: a greeting, goods, an application error and a framework error.")
    parser.add_argument("address", type=address, metavar="HOST:PORT", help="the address of the provider")
    parser.add_argument("--name", default="Bo", help="the name to greet (default: %(default)s)")
    parser.add_argument("--id", type=int, default=1, help="the id of the good to find (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS",
                        help="the time limit of each step (default: %(default)s)")
    options = parser.parse_args()
    try:
        client = Client(*options.address, options.timeout)
        client.ping()
        print("ping: pong")
        show(f"hello {options.name!r}", lambda: client.call("demo.Greeter:1.0/hello", name=options.name))
        show(f"good {options.id}", lambda: client.call("shop.Goods:1.0/find_goods", id=options.id))
        show("good 404", lambda: client.call("shop.Goods:1.0/find_goods", id=404))
        show("no such method", lambda: client.call("demo.Greeter:1.0/bye"))
    except socket.timeout:
        return f"timed out: no answer within {options.timeout} s"
    except (ProtocolError, OSError, ValueError) as error:
        return f"failed: {error}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
