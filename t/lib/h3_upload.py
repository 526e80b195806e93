"""HTTP/3 client of the test suite that sends bodies: requests one after the other, over one QUIC connection.

Arguments: port, then method, host, path, and bytes of body, in turn. Prints a JSON list of {status, length},
in order."""

import asyncio
import json
import sys

from aioquic.asyncio.client import connect

from h3_client import H3_ALPN, Client, QuicConfiguration, ssl


class Uploader(Client):
    def upload(self, method, host, path, size):
        stream = self._quic.get_next_available_stream_id()
        self.http.send_headers(
            stream,
            [(b":method", method.encode()), (b":scheme", b"https"), (b":authority", host.encode()),
                (b":path", path.encode()),
             (b"content-length", str(size).encode())],
        )
        self.http.send_data(stream, b"u" * size, end_stream=True)
        done = asyncio.get_running_loop().create_future()
        self.waiting[stream] = ({"status": 0, "length": 0}, done)
        self.transmit()
        return done


async def run(port, requests):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE,
        server_name="h3.test")
    configuration.max_data = configuration.max_stream_data = 1 << 26
    answers = []
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Uploader) as client:
        await client.wait_connected()
        for method, host, path, size in requests:
            answers.append(await asyncio.wait_for(client.upload(method, host, path, int(size)), 20))
    return answers


if __name__ == "__main__":
    words = sys.argv[2:]
    print(json.dumps(asyncio.run(run(int(sys.argv[1]), list(zip(*[iter(words)] * 4))))))
