"""HTTP/3 client of the test suite: all requests of a run go over one QUIC connection, at the same time.

Arguments: port, rounds (1 or more), then host and path in turn. With several rounds the requests are repeated, one
round after the other. A path after "POST " gets a body of 1 MB that does not end. Prints a JSON list of {host, path,
status, length} in the order of the requests."""

import asyncio
import json
import ssl
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.waiting = {}

    def start(self, host, path):
        stream = self._quic.get_next_available_stream_id()
        method, path = path.split(" ") if " " in path else ("GET", path)
        self.http.send_headers(
            stream,
            [(b":method", method.encode()), (b":scheme", b"https"), (b":path", path.encode())]
            # an empty host sends no :authority
            + ([(b":authority", host.encode())] if host else []) + [(b"accept-encoding", b"gzip")],
            end_stream=method == "GET",
        )
        if method == "POST":
            self.http.send_data(stream, b"x" * 1000000, end_stream=False)
        done = asyncio.get_running_loop().create_future()
        self.waiting[stream] = ({"host": host, "path": path, "status": 0, "length": 0}, done)
        return done

    def quic_event_received(self, event):
        for http_event in self.http.handle_event(event):
            answer, done = self.waiting.get(http_event.stream_id, (None, None))
            if answer is None:
                continue
            if isinstance(http_event, HeadersReceived):
                answer["status"] = int(dict(http_event.headers).get(b":status", b"0"))
            elif isinstance(http_event, DataReceived):
                answer["length"] += len(http_event.data)
            if http_event.stream_ended and not done.done():
                done.set_result(answer)


async def run(port, rounds, requests):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE,
        server_name="h3.test")
    configuration.max_data = configuration.max_stream_data = 1 << 26
    answers = []
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Client) as client:
        await client.wait_connected()
        for _ in range(rounds):
            waiting = [client.start(host, path) for host, path in requests]
            client.transmit()
            answers += await asyncio.wait_for(asyncio.gather(*waiting), 20)
    return answers


if __name__ == "__main__":
    pairs = sys.argv[3:]
    print(json.dumps(asyncio.run(run(int(sys.argv[1]), int(sys.argv[2]), list(zip(pairs[::2], pairs[1::2]))))))
