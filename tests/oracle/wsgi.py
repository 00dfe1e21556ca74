"""What the oracles are made of: a filter in front of an echo, served over HTTP/1.1.

README.md describes what the application returns and which headers it uses.
"""

import http
import io
import json
import logging
import os
import signal
import socketserver
import sys
import threading
import urllib.parse

import webob
from keystonemiddleware.auth_token import _request

MAX_HEAD = 1 << 20
MAX_BODY = 16 << 20


def serve(application, port, until_eof, tls=None):
    """Says on stdout which port of 127.0.0.1 it is, and serves until it is killed or stdin ends.

    With tls, an SSLContext, it speaks TLS.
    """
    server = Server(('127.0.0.1', port), application, tls)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if until_eof:
        threading.Thread(target=exit_at_eof, daemon=True).start()
    print('PORT', server.server_address[1], flush=True)
    server.serve_forever()


def exit_at_eof():
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def echo(environ, start_response):
    """The application behind the filter: it answers with what it was given."""
    ours = identity_keys()
    identity, others, not_text = {}, {}, {}
    for key, value in environ.items():
        if not key.startswith('HTTP_') or value is None:
            continue
        name = key[5:].replace('_', '-').lower()
        if not isinstance(value, str):
            not_text[name] = repr(value)
        elif key in ours:
            # The filter puts text into the environment, not WSGI's bytes in
            # latin-1. What it would be on the wire is its UTF-8.
            identity[name] = value.encode('utf-8', 'surrogatepass').hex()
        else:
            others[name] = value.encode('latin-1').hex()

    status = int(environ.get('HTTP_X_TEST_STATUS', '200'))
    start_response(f'{status} {reason(status)}', [('Content-Type', 'application/json')])
    return [json.dumps({
        'method': environ['REQUEST_METHOD'],
        'path': environ['RAW_URI'],
        'identity': identity,
        'headers': others,
        'not_text': not_text,
        'token_info': 'keystone.token_info' in environ,
    }, sort_keys=True).encode()]


def identity_keys():
    """The environment's names for all headers that auth_token sets, and so strips."""
    names = _request._AuthTokenRequest(webob.Request.blank('/').environ)._all_auth_headers()
    return {'HTTP_' + name.upper().replace('-', '_') for name in names}


class Server(socketserver.ThreadingTCPServer):
    """WSGI over HTTP/1.1, one request a connection."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, application, tls=None):
        self.application = application
        self.tls = tls
        super().__init__(address, Handler)

    def get_request(self):
        connection, address = super().get_request()
        if self.tls:
            # The handshake is for the thread that reads first.
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request, client_address):
        logging.exception('connection')


class Input(io.BytesIO):
    """A body that tells of its connection, as eventlet's does."""

    def __init__(self, body, connection):
        super().__init__(body)
        self.connection = connection

    def get_socket(self):
        return self.connection


class Handler(socketserver.StreamRequestHandler):
    timeout = 60

    def handle(self):
        environ = self.read_request()
        if environ is None:
            return
        try:
            status, headers, body = run(self.server.application, environ)
        except Exception as error:
            # What a WSGI server makes of an application that raises.
            logging.exception('the filter raised')
            status, headers = '500 Internal Server Error', [('Content-Type', 'application/json')]
            body = json.dumps({'raised': type(error).__name__}).encode()
        self.answer(environ, status, headers, body)

    def read_request(self):
        line = self.rfile.readline(MAX_HEAD).strip()
        if not line:
            return None
        method, target, _ = line.decode('latin-1').split(' ')
        path, _, query = target.partition('?')
        environ = {
            'REQUEST_METHOD': method,
            'SCRIPT_NAME': '',
            'PATH_INFO': urllib.parse.unquote(path, 'latin-1'),
            'QUERY_STRING': query,
            'RAW_URI': target,
            'SERVER_NAME': '127.0.0.1',
            'SERVER_PORT': str(self.server.server_address[1]),
            'SERVER_PROTOCOL': 'HTTP/1.1',
            'wsgi.version': (1, 0),
            'wsgi.url_scheme': 'http',
            'wsgi.errors': sys.stderr,
            'wsgi.multithread': True,
            'wsgi.multiprocess': False,
            'wsgi.run_once': False,
        }
        size = 0
        while (line := self.rfile.readline(MAX_HEAD).rstrip(b'\r\n')):
            size += len(line)
            if size > MAX_HEAD:
                raise ValueError('request head too large')
            name, _, value = line.decode('latin-1').partition(':')
            key = 'HTTP_' + name.upper().replace('-', '_')
            value = value.strip(' \t')
            environ[key] = environ[key] + ',' + value if key in environ else value

        # These two have no HTTP_ in WSGI; the next two stand for what a web
        # server's own authentication module says.
        for key, source in (('CONTENT_TYPE', 'HTTP_CONTENT_TYPE'), ('CONTENT_LENGTH', 'HTTP_CONTENT_LENGTH'),
                            ('REMOTE_USER', 'HTTP_X_TEST_REMOTE_USER'), ('AUTH_TYPE', 'HTTP_X_TEST_AUTH_TYPE')):
            if source in environ:
                environ[key] = environ.pop(source)
        length = int(environ.get('CONTENT_LENGTH') or 0)
        if length > MAX_BODY:
            raise ValueError('request body too large')
        environ['wsgi.input'] = Input(self.rfile.read(length), self.connection)
        return environ

    def answer(self, environ, status, headers, body):
        if environ['REQUEST_METHOD'] == 'HEAD':
            body = b''
        else:
            headers = [(name, value) for name, value in headers if name.lower() != 'content-length']
            headers.append(('Content-Length', str(len(body))))
        headers.append(('Connection', 'close'))
        head = f'HTTP/1.1 {status}\r\n' + ''.join(f'{name}: {value}\r\n' for name, value in headers) + '\r\n'
        self.wfile.write(head.encode('latin-1', 'replace') + body)


def run(application, environ):
    started = []

    def start_response(status, headers, exc_info=None):
        started[:] = [status, headers]
        return lambda _: None

    chunks = application(environ, start_response)
    try:
        body = b''.join(chunks)
    finally:
        if hasattr(chunks, 'close'):
            chunks.close()
    return started[0], started[1], body


def reason(status):
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return 'Unknown'
