#!/usr/bin/env python3
"""Calls methods of msnb that have streams from Python, using only the standard library.

The client was written from docs/PROTOCOL.md alone. It calls `count` and `collect` of `test.Wire:1.0`, the service of
msnb's own tests:

    python3 examples/python/streams.py 127.0.0.1:7788
"""

import argparse
import json
import socket
import struct
import sys

from client import JSON, RESPONSE, ApplicationError, Client, ProtocolError, StatusError, address

ITEM, END, CREDIT = 7, 8, 9  # of a caller
CALLEE_ITEM, CALLEE_END, CALLEE_CREDIT = 10, 11, 12
CALL_FLAGS, SENDS_ITEMS, EXPECTS_ITEMS = 3, b"\x04", b"\x08"
INITIAL_CREDIT, ITEM_COST = 65536, 16


class StreamClient(Client):
    """A connection with one call at a time, which may send or receive a stream."""

    def receive_stream(self, route, **arguments):
        """Calls a method that returns a stream and yields its items. Raises its error at the end."""
        number = self.request(route, arguments, (CALL_FLAGS, EXPECTS_ITEMS))
        self.payload_of(self.receive((RESPONSE,), number)[1])
        read = 0
        while True:
            kind, body = self.receive((CALLEE_ITEM, CALLEE_END), number)
            if kind == CALLEE_END:
                self.payload_of(body)
                return
            yield json.loads(body)
            read += len(body) + ITEM_COST
            if read >= INITIAL_CREDIT // 2:
                self.send(CREDIT, 0, number, struct.pack(">I", read))
                read = 0

    def send_stream(self, route, items, **arguments):
        """Calls a method with a stream as its last parameter. Returns its result or raises its error."""
        number = self.request(route, arguments, (CALL_FLAGS, SENDS_ITEMS))
        credit, answer = INITIAL_CREDIT, None
        for item in items:
            while credit <= 0 and answer is None:
                kind, body = self.receive((CALLEE_CREDIT, RESPONSE), number)
                if kind == RESPONSE:
                    answer = body
                else:
                    credit += struct.unpack(">I", body)[0]
            if answer is not None:
                break
            payload = json.dumps(item).encode()
            self.send(ITEM, JSON, number, payload)
            credit -= len(payload) + ITEM_COST
        # Also after an early answer: END makes the id free.
        self.send(END, 0, number)
        while answer is None:
            kind, body = self.receive((CALLEE_CREDIT, RESPONSE), number)
            answer = body if kind == RESPONSE else None
        return json.loads(self.payload_of(answer))


def main():
    parser = argparse.ArgumentParser(description="Calls methods with streams of test.Wire:1.0.")
    parser.add_argument("address", type=address, metavar="HOST:PORT", help="the address of the provider")
    parser.add_argument("--items", type=int, default=200, help="the length of each stream (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS",
                        help="the time limit of each step (default: %(default)s)")
    options = parser.parse_args()
    try:
        client = StreamClient(*options.address, options.timeout)
        texts = list(client.receive_stream("test.Wire:1.0/count", to=options.items, long=True))
        print(f"count: {len(texts)} items, in order: {[int(text) for text in texts] == list(range(1, len(texts) + 1))}")
        print(f"collect: {client.send_stream('test.Wire:1.0/collect', texts)}")
        # The connection and its ids are usable after both streams.
        print(f"echo: {client.call('test.Wire:1.0/echo', text='Zoë')}")
        client.send_stream("test.Wire:1.0/count", texts, to=1, long=False)
    except StatusError as error:
        print(f"no such stream: {error}")
    except socket.timeout:
        return f"timed out: nothing arrived within {options.timeout} s"
    except (ApplicationError, ProtocolError, OSError, ValueError) as error:
        return f"failed: {error}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
