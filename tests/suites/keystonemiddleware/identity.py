"""The identity service: what a test has registered with requests_mock, over HTTP.

Each filter has a path of its own (`/NAME/...`), so that a question of one nginx never counts for the
test after it. A question goes through the adapter of requests_mock, which finds the answer and
writes the history that the tests look at.
"""

import http.server
import json
import re
import threading
import time

import requests
import requests_mock

# What requests_mock and the callbacks of tests raise when there is no connection.
NO_CONNECTION = ('ConnectFailure', 'ConnectionRefused', 'RequestTimeout', 'EndpointNotFound', 'NoMockAddress')
LIST = re.compile(r'/(v2\.0/tokens/revoked|v3/auth/tokens/OS-PKI/revoked)$')
SIGNING_CERTIFICATE = re.compile(r'/(v2\.0/certificates/signing|v3/OS-SIMPLE-CERT/certificates)$')
CA_CERTIFICATE = re.compile(r'/(v2\.0/certificates/ca|v3/OS-SIMPLE-CERT/ca)$')
TOKEN = re.compile(r'/(?:v2\.0/tokens/([^/?]+)|v3/auth/tokens)(?:\?.*)?$')


class Identity:
    """Serves on a port of 127.0.0.1 until the process ends."""

    def __init__(self):
        self.filters = {}
        self.mock = None
        self.lock = threading.Lock()
        handler = type('Handler', (Handler,), {'identity': self})
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def answer(self, method, target, headers, body, is_first):
        """Status, headers and body; None closes the connection.

        `is_first` tells a question on a new connection: any other may be asked again at once when
        the connection turns out to be closed, and that counts as no further try.
        """
        _, name, rest = target.split('/', 2)
        asking = self.filters.get(name)
        if asking is None or self.mock is None:
            return None
        with self.lock:
            try:
                return self.ask(asking, Question(method, '/' + rest, headers, body))
            except Exception as error:
                if type(error).__name__ not in NO_CONNECTION:
                    asking.failure = asking.failure or error
                if is_first:
                    asking.note_failed_try(target)
                return None

    def ask(self, asking, question):
        prepared = asking.prepared_answer(question)
        if prepared is not None:
            return prepared
        url = asking.origin + question.path
        if question.method == 'GET' and url.rstrip('/') == asking.identity_uri:
            # auth_token leaves out the slash at the end.
            url = asking.identity_uri
        try:
            return self.forward(question.method, url, question)
        except requests_mock.NoMockAddress:
            if question.method == 'POST' and url.endswith('/v3/auth/tokens'):
                return self.log_in(asking)
            raise

    def forward(self, method, url, question):
        request = requests.Request(method, url, headers=question.headers, data=question.body or None).prepare()
        answer = self.mock._adapter.send(request, timeout=None)
        body = answer.content
        if answer.status_code == 404 and b'"error"' not in body:
            # A real Keystone says why, and the module believes no other 404.
            body = b'{"error": {"code": 404, "title": "Not Found", "message": "Not Found"}}'
        if url.endswith('/v2.0/tokens') and method == 'POST':
            body = with_later_expiry(body)
        return answer.status_code, dict(answer.headers), body

    def log_in(self, asking):
        """Answers a login by API v3 with the token that the test has for one by v2.0.

        auth_token 4.9.1 logs in by v2.0 whatever auth_version says, so no test has anything else.
        """
        question = Question('POST', '', {'Content-Type': 'application/json'}, b'{}')
        status, _, body = self.forward('POST', asking.identity_uri + '/v2.0/tokens', question)
        token = json.loads(body)['access']['token']
        answer = {'token': {'expires_at': token['expires'], 'methods': ['password'],
                            'user': {'id': 'u', 'name': 'u', 'domain': {'id': 'default', 'name': 'Default'}}}}
        return status, {'X-Subject-Token': token['id'], 'Content-Type': 'application/json'}, json.dumps(answer).encode()


class Question:
    def __init__(self, method, path, headers, body):
        self.method, self.path, self.headers, self.body = method, path, headers, body

    def is_for(self, pattern):
        return self.method == 'GET' and pattern.search(self.path)

    def token(self):
        """The token that it is about, if it is about one."""
        if self.method == 'GET' and (about := TOKEN.search(self.path)) and not self.is_for(LIST):
            return about[1] or self.headers.get('X-Subject-Token')
        return None


def with_later_expiry(body):
    """The service user's token: the one in 4.9.1's tests has expired in 2022."""
    answer = json.loads(body)
    answer['access']['token']['expires'] = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + 86400))
    return json.dumps(answer).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    timeout = 60
    is_first = True

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        headers = requests.structures.CaseInsensitiveDict(
            (name, value) for name, value in self.headers.items()
            if name.lower() not in ('host', 'connection', 'content-length'))
        is_first, self.is_first = self.is_first, False
        answer = self.identity.answer(self.command, self.path, headers, body, is_first)
        if answer is None:
            self.close_connection = True
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass
