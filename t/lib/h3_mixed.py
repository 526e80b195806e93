"""HTTP/3 client for tests of several requests on one QUIC connection.

Arguments: port, the steps as a JSON list, and optionally a host whose requests go over a second connection. Each step
is a list: an action and its arguments.

    ["get", HOST, PATH]                   a request; waits for its answer
    ["gets", COUNT, HOST, PATH]           that many requests, one after the other
    ["start", NAME, HOST, PATH]           a request; does not wait for its answer
    ["open", NAME, HOST, PATH]            a POST request whose body follows
    ["body", NAME, BYTES]                 that much of its body; waits until the server has acknowledged most of it
    ["gap", NAME, OFFSET]                 one byte of its body, OFFSET bytes after the sent part; the gap is never sent
    ["end", NAME]                         the end of its body; waits for its answer
    ["reset", NAME]                       the client resets the stream
    ["wait", NAME...]                     waits for the answers
    ["fields", HOST, PATH, COUNT]         a request with that many header fields, in the packet of the next request
    ["pings", COUNT]                      QUIC frames that belong to no stream; each is answered
    ["say", TEXT]                         prints a line, and waits for a line on the standard input
    ["sleep", SECONDS]

Prints a JSON object of answers at the end: {"statuses": {status: count}, "lengths": {name: bytes}}."""

import asyncio
import collections
import contextlib
import json
import ssl
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StopSendingReceived, StreamReset

TIMEOUT = 60


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.answers = {}
        self.stopped = set()

    def request(self, host, path, method=b"GET", end=True, fields=0):
        stream = self._quic.get_next_available_stream_id()
        headers = [(b":method", method), (b":scheme", b"https"), (b":authority", host.encode()),
            (b":path", path.encode())]
        headers += [(b"x-%03d" % n, b"value") for n in range(fields)]
        self.http.send_headers(stream, headers, end_stream=end)
        self.answers[stream] = ({"status": 0, "length": 0}, asyncio.get_running_loop().create_future())
        return stream

    def quic_event_received(self, event):
        if isinstance(event, StopSendingReceived):
            self.stopped.add(event.stream_id)
        if isinstance(event, StreamReset) and event.stream_id in self.answers:
            self.ended(event.stream_id)
        for http_event in self.http.handle_event(event):
            if http_event.stream_id not in self.answers:
                continue
            answer = self.answers[http_event.stream_id][0]
            if isinstance(http_event, HeadersReceived):
                answer["status"] = int(dict(http_event.headers).get(b":status", b"0"))
            elif isinstance(http_event, DataReceived):
                answer["length"] += len(http_event.data)
            if http_event.stream_ended:
                self.ended(http_event.stream_id)

    def ended(self, stream):
        done = self.answers[stream][1]
        if not done.done():
            done.set_result(True)

    async def answer(self, stream):
        self.transmit()
        await asyncio.wait_for(asyncio.shield(self.answers[stream][1]), TIMEOUT)

    def unsent(self, stream):
        sender = self._quic._streams[stream].sender if stream in self._quic._streams else None
        return sender._buffer_stop - sender._buffer_start if sender else 0

    def gap(self, stream, offset):
        sender = self._quic._streams[stream].sender
        sender._buffer += bytes(offset)
        sender._buffer_stop += offset
        sender._pending.add(sender._buffer_stop - 1, sender._buffer_stop)
        sender.buffer_is_empty = False
        self.transmit()

    async def body(self, stream, count):
        piece = b"x" * 65536
        while count > 0 and stream not in self.stopped and not self.answers[stream][1].done():
            length = min(count, len(piece))
            self.http.send_data(stream, piece[:length], end_stream=False)
            count -= length
            self.transmit()
            while self.unsent(stream) > 262144 and stream not in self.stopped:
                await asyncio.sleep(0.001)
        while self.unsent(stream) > 0 and stream not in self.stopped and not self.answers[stream][1].done():
            await asyncio.sleep(0.001)


async def run(port, steps, apart):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE,
        server_name="h3.test")
    configuration.max_data = configuration.max_stream_data = 1 << 28
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for _ in range(2 if apart else 1):
            client = await stack.enter_async_context(
                connect("127.0.0.1", port, configuration=configuration, create_protocol=Client))
            await client.wait_connected()
            clients.append(client)
        return await do_steps(lambda host: clients[-1 if host == apart else 0], steps)


async def do_steps(client_of, steps):
    named = {}
    for what, *rest in steps:
        if what == "get":
            client = client_of(rest[0])
            await client.answer(client.request(*rest))
        elif what == "gets":
            client = client_of(rest[1])
            for _ in range(rest[0]):
                await client.answer(client.request(*rest[1:]))
        elif what == "start":
            client = client_of(rest[1])
            named[rest[0]] = client, client.request(*rest[1:])
            client.transmit()
        elif what == "open":
            client = client_of(rest[1])
            named[rest[0]] = client, client.request(*rest[1:], method=b"POST", end=False)
            client.transmit()
        elif what == "body":
            client, stream = named[rest[0]]
            await client.body(stream, rest[1])
        elif what == "gap":
            client, stream = named[rest[0]]
            client.gap(stream, rest[1])
        elif what == "end":
            client, stream = named[rest[0]]
            if stream not in client.stopped:
                client.http.send_data(stream, b"", end_stream=True)
            await client.answer(stream)
        elif what == "reset":
            client, stream = named[rest[0]]
            client._quic.reset_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
            client.transmit()
            client.ended(stream)
        elif what == "wait":
            for name in rest:
                client, stream = named[name]
                await client.answer(stream)
        elif what == "fields":
            client_of(rest[0]).request(rest[0], rest[1], fields=rest[2])
        elif what == "pings":
            for _ in range(rest[0]):
                await client_of(None).ping()
        elif what == "say":
            print(rest[0], flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        elif what == "sleep":
            await asyncio.sleep(rest[0])
        else:
            raise ValueError(what)
    statuses = collections.Counter()
    for client in {client_of(None)} | {client for client, _ in named.values()}:
        statuses.update(answer["status"] for answer, _ in client.answers.values())
    return {"statuses": statuses,
        "lengths": {name: client.answers[stream][0]["length"] for name, (client, stream) in named.items()}}


if __name__ == "__main__":
    apart = sys.argv[3] if len(sys.argv) > 3 else None
    print(json.dumps(asyncio.run(run(int(sys.argv[1]), json.loads(sys.argv[2]), apart))))
