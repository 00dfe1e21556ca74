"""What tests reach into the filter for, as far as it can be seen from outside."""

import json
import pathlib
import types
import urllib.parse

import webob
from keystonemiddleware import auth_token
from keystonemiddleware.auth_token import _exceptions

import examples
import identity


class Internals:
    """Attributes and methods of AuthProtocol that the tests use: a part of Edge."""

    # Replaced by tests of 13.0: nginx has its own cache.
    _create_oslo_cache = None
    # Who asks for this wants cached tokens to be checked again, as they always are.
    _check_revocations_for_cached = True
    _SIGNING_CERT_FILE_NAME = 'signing_cert.pem'
    _SIGNING_CA_FILE_NAME = 'cacert.pem'

    @property
    def _delay_auth_decision(self):
        self.send(webob.Request.blank('/').environ)
        return self.seen is not None and self.seen['HTTP_X_IDENTITY_STATUS'] == 'Invalid'

    @_delay_auth_decision.setter
    def _delay_auth_decision(self, value):
        self.change('delay_auth_decision', value)

    @property
    def _auth_uri(self):
        _, _, headers, _ = self.send(webob.Request.blank('/').environ)
        challenge = dict((name.lower(), value) for name, value in headers)['www-authenticate']
        return challenge.removeprefix('Keystone uri="').removesuffix('"')

    @property
    def _http_request_max_retries(self):
        return self.options.changed.get('http_request_max_retries')

    @_http_request_max_retries.setter
    def _http_request_max_retries(self, value):
        self.change('http_request_max_retries', value)

    def _validate_offline(self, token, token_hashes):
        """None where the identity service had to be asked about the token."""
        status = self.probe(token)
        if status == 503 or self.asked_about:
            return None
        if status == 401:
            raise _exceptions.InvalidToken(self.last_log['auth_result'])
        return {'status': status}

    def _create_identity_server(self):
        """Tells the version of the API by which nginx asks about a token."""
        self.is_version_wanted = True
        self.probe('0123456789abcdef0123456789abcdef')
        version, = {path.removeprefix(urllib.parse.urlsplit(self.identity_uri).path).split('/')[1]
                    for path in self.asked_about}
        return types.SimpleNamespace(auth_version={'v2.0': (2, 0), 'v3': (3, 0)}[version])

    def _fetch_signing_cert(self):
        self.fetch_certificate(identity.SIGNING_CERTIFICATE)

    def _fetch_ca_cert(self):
        self.fetch_certificate(identity.CA_CERTIFICATE)

    def fetch_certificate(self, which):
        """A signed token makes the module fetch both; only one of the questions is let through."""
        self.wanted_certificate = which
        self.stop()
        self.probe(examples.signed_token())


class Revocations:
    """The revocation list that auth_token has, on its disk and in its memory."""

    def __init__(self, edge):
        self.edge = edge
        self.signed = None
        self.forgotten = set()

    def is_forgotten(self, token):
        """Whether the token was revoked while nginx ran: Keystone does not know it any more then."""
        return token in self.forgotten

    @property
    def path(self):
        return pathlib.Path(self.edge.options.get('signing_dir')) / 'revoked.pem'

    @property
    def _list(self):
        """The list that the module has kept on disk, once a signed token has come."""
        if not self.path.exists():
            self.edge.probe(examples.signed_token())
        return json.loads(examples.verified(self.path.read_text()))

    @_list.setter
    def _list(self, content):
        self.signed = examples.sign(content)
        if self.edge.nginx is None:
            if self.edge.options.get('signing_dir'):
                self.path.write_text(self.signed)
            return
        self.forgotten = {entry['id'] for entry in json.loads(content)['revoked']}
        self.expire()
        # The module fetches the list while signed tokens come.
        self.edge.probe(examples.signed_token())

    @property
    def _fetched_time(self):
        raise NotImplementedError('when a list was fetched is not told')

    @_fetched_time.setter
    def _fetched_time(self, _):
        """From now on nginx fetches the list from the identity service."""
        self.signed = None
        self.expire()

    def expire(self):
        self.edge.advance(self.edge.options.get('revocation_cache_time') + 1)

    def _any_revoked(self, ids):
        token, = {token for one in ids for token in examples.tokens() if one in examples.hashes(token)}
        status = self.edge.probe(token)
        result = self.edge.last_log['auth_result']
        if (status, result) not in ((200, 'ok'), (401, 'revoked')):
            raise AssertionError(f'{status} {result}')
        return result == 'revoked'

    def _fetch(self):
        """Fetches a list for a signed token, and gives what the module has kept of it."""
        self.edge.stop()
        self._fetched_time = None
        self.path.unlink(missing_ok=True)
        self.edge.probe(examples.signed_token())
        if not self.path.exists():
            raise _exceptions.RevocationListError(self.edge.last_log['auth_result'])
        return examples.verified(self.path.read_text())

    def answer(self):
        """What the identity service says to the module: None leaves it to requests_mock."""
        if '_fetch' in vars(self):
            # A test has replaced it by one that fails.
            return 500, {}, b''
        if self.signed is None:
            return None
        return 200, {'Content-Type': 'application/json'}, json.dumps({'signed': self.signed}).encode()


class TokenCache:
    """What nginx has an answer for."""

    # The name of a client in the environ that a test gives to initialize().
    _env_cache_name = None

    def __init__(self, edge):
        self.edge = edge
        self.client = None

    def initialize(self, env):
        self.client = env[self._env_cache_name]

    def note(self, log):
        """auth_token would have stored what was no hit."""
        if self.client and log['identity_status'] == 'Confirmed' and log['cache_status'] != 'HIT':
            self.client.set('a token', 'its data')

    def get(self, name):
        """Sends the token again: None unless the answer came from the cache."""
        status = self.edge.probe(self.edge.tokens.get(name, name))
        if self.edge.last_log['cache_status'] != 'HIT':
            return None
        return getattr(auth_token, '_CACHE_INVALID_INDICATOR', 'invalid') if status == 401 else {'status': status}


class SigningDirectory:
    def __init__(self, edge):
        self.edge = edge

    def calc_path(self, name):
        return str(pathlib.Path(self.edge.options.get('signing_dir')) / name)


class IdentityServer:
    """Tests replace get_endpoint() by one that finds no version that it can use."""

    class _adapter:
        @staticmethod
        def get_endpoint():
            return 'as registered'
