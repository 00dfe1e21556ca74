"""A Keystone over gunicorn: serve.py CLOUD --port N [--provider jws] [--lifetime SECONDS].

CLOUD is a copy of what cloud.py made; several may run on the same one. It
listens on 127.0.0.1, writes to stderr, and ends when its stdin does, so that
it never outlives who started it.
"""

import argparse
import os
import signal
import sys
import threading
import urllib.parse
import warnings

warnings.simplefilter('ignore')  # eventlet says that it is old

from gunicorn.app.base import BaseApplication
from sqlalchemy import event
from sqlalchemy.engine import Engine

import settings


class Server(BaseApplication):
    def __init__(self, port):
        self.port = port
        super().__init__()

    def load_config(self):
        for name, value in {
            'bind': f'127.0.0.1:{self.port}',
            'workers': 1,
            'worker_class': 'gthread',
            'threads': 8,
            'keepalive': 75,
            'timeout': 0,
            'graceful_timeout': 1,
            'limit_request_field_size': 0,
            'control_socket_disable': True,
            'loglevel': 'warning',
            'when_ready': lambda _: threading.Thread(target=end_at_eof, daemon=True).start(),
        }.items():
            self.cfg.set(name, value)

    def load(self):
        from keystone.wsgi.api import application
        return WithClientCertificate(application)


class WithClientCertificate:
    """Hands Keystone the client's certificate where Apache's mod_ssl has it.

    The TLS terminator in front sends it as nginx's $ssl_client_escaped_cert.
    """

    def __init__(self, application):
        self.application = application

    def __call__(self, environ, start_response):
        certificate = environ.pop('HTTP_X_TEST_CLIENT_CERT', '')
        if certificate:
            environ['SSL_CLIENT_CERT'] = urllib.parse.unquote(certificate)
        return self.application(environ, start_response)


@event.listens_for(Engine, 'before_cursor_execute', retval=True)
def begin_to_write(connection, cursor, statement, parameters, context, executemany):
    """Begins each transaction as one that writes.

    Of two transactions that have read and then want to write, SQLite refuses one
    at once, and Keystone answers 500. So they wait for each other at their beginning.
    """
    return 'BEGIN IMMEDIATE' if statement == 'BEGIN' else statement, parameters


def end_at_eof():
    while sys.stdin.buffer.read(4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('cloud')
    parser.add_argument('--port', type=int, required=True)
    parser.add_argument('--provider', default='fernet', choices=['fernet', 'jws'])
    parser.add_argument('--lifetime', type=int, default=3600, metavar='SECONDS', help='of the tokens that it gives')
    arguments = parser.parse_args()
    uri = f'http://127.0.0.1:{arguments.port}'
    config = settings.write(arguments.cloud, arguments.port, uri, arguments.provider, arguments.lifetime)
    os.environ['OS_KEYSTONE_CONFIG_FILES'] = str(config)
    sys.argv[1:] = []  # Keystone takes them for its own
    Server(arguments.port).run()


if __name__ == '__main__':
    main()
