"""Requests over HTTP/3, each on a stream of one connection.

usage: http3.py PORT CA

The first line of stdin is a JSON list of requests: {"path": ..., "headers": [[name, value], ...]},
and "reset": true for one that the client gives up. Those wait for a second line. When nginx has
answered a request that came after the reset, this prints "reset". When all others are answered, it
prints a JSON list: for each {"status": ..., "headers": [[name, value], ...], "body": ...}, or null
for one that was given up.
"""

import asyncio
import json
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration

HOST = "127.0.0.1"
WORKER = {"path": "/-/worker", "headers": []}


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.http = H3Connection(self._quic)
        self.answers = {}
        self.ended = {}

    def quic_event_received(self, event):
        for part in self.http.handle_event(event):
            answer = self.answers.get(part.stream_id)
            if answer is None:
                continue
            if isinstance(part, HeadersReceived):
                fields = [(name.decode(), value.decode("latin-1")) for name, value in part.headers]
                answer["status"] = int(dict(fields)[":status"])
                answer["headers"] = fields[1:]
            elif isinstance(part, DataReceived):
                answer["body"] += part.data.decode()
            if part.stream_ended:
                self.ended[part.stream_id].set()

    def send(self, request):
        stream = self._quic.get_next_available_stream_id()
        fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", request["path"]),
            *request["headers"],
        ]
        self.answers[stream] = {"status": None, "headers": [], "body": ""}
        self.ended[stream] = asyncio.Event()
        fields = [(name.encode(), value.encode("latin-1")) for name, value in fields]
        self.http.send_headers(stream, fields, end_stream=not request.get("reset"))
        self.transmit()
        return stream

    def give_up(self, stream):
        self._quic.reset_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
        self._quic.stop_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
        self.answers[stream] = None
        self.ended[stream].set()

    async def wait(self, streams):
        for stream in streams:
            await asyncio.wait_for(self.ended[stream].wait(), 30)


async def main(port, ca):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN)
    configuration.load_verify_locations(ca)
    requests = json.loads(sys.stdin.readline())
    async with connect(HOST, port, configuration=configuration, create_protocol=Client) as client:
        streams = [client.send(request) for request in requests]
        given_up = [stream for stream, request in zip(streams, requests) if request.get("reset")]
        if given_up:
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            for stream in given_up:
                client.give_up(stream)
            await client.wait([client.send(WORKER)])
            print("reset", flush=True)
        await client.wait(streams)
        print(json.dumps([client.answers[stream] for stream in streams]), flush=True)


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
