"""The oracle: auth_token of keystonemiddleware 4.9.1 in front of an echo.

The first line on stdout is `PORT n`; from then on 127.0.0.1:n answers. What the
echo says, and which headers it heeds, is told in README.md.
"""

import compat  # first: the rest does not import without it

import argparse
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
from keystonemiddleware import auth_token
from keystonemiddleware.auth_token import _request

MAX_HEAD = 1 << 20
MAX_BODY = 16 << 20

# The options of auth_token that have an argument of their own here.
OPTIONS = (
    'admin_password', 'admin_tenant_name', 'admin_token', 'admin_user', 'auth_uri', 'auth_version',
    'check_revocations_for_cached', 'delay_auth_decision', 'enforce_token_bind', 'hash_algorithms',
    'http_request_max_retries', 'identity_uri', 'include_service_catalog', 'revocation_cache_time',
    'signing_dir', 'token_cache_time',
)


def main():
    arguments = parse_arguments()
    logging.basicConfig(level=arguments.log_level.upper(), filename=arguments.log,
                        format='%(asctime)s %(levelname)s %(name)s %(message)s')
    compat.restore_openssl_words()

    application = auth_token.filter_factory({}, **options(arguments))(echo)
    server = Server(('127.0.0.1', arguments.port), application)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if arguments.until_eof:
        threading.Thread(target=exit_at_eof, daemon=True).start()
    print('PORT', server.server_address[1], flush=True)
    server.serve_forever()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in OPTIONS:
        parser.add_argument('--' + name.replace('_', '-'), metavar='VALUE', help='as in [keystone_authtoken]')
    parser.add_argument('--option', action='append', default=[], metavar='NAME=VALUE',
                        help='any other option of auth_token; can be repeated')
    parser.add_argument('--port', type=int, default=0, help='default: a free one')
    parser.add_argument('--log', metavar='FILE', help='default: stderr')
    parser.add_argument('--log-level', default='critical', choices=['debug', 'info', 'warning', 'error', 'critical'])
    parser.add_argument('--until-eof', action='store_true', help='end when stdin does')
    parser.add_argument('--version', action='store_true', help='tell what would run, and end')
    arguments = parser.parse_args()
    if arguments.version:
        from importlib.metadata import version
        print(*(f'{name} {version(name)}' for name in ('keystonemiddleware', 'python-keystoneclient')), sep='\n')
        sys.exit(0)
    return arguments


def options(arguments):
    given = {name: getattr(arguments, name) for name in OPTIONS}
    given.update(pair.split('=', 1) for pair in arguments.option)
    return {name: value for name, value in given.items() if value is not None}


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

    def __init__(self, address, application):
        self.application = application
        super().__init__(address, Handler)

    def handle_error(self, request, client_address):
        logging.exception('connection')


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
        environ['wsgi.input'] = io.BytesIO(self.rfile.read(length))
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


if __name__ == '__main__':
    main()
