"""nginx in the place of AuthProtocol.

`Edge` is called as the filter is. It sends the request to an nginx with the module, whose upstream
calls the application, and gives back nginx's answer.
"""

import itertools
import logging
import threading
import time
import urllib.parse

import webob

import examples
import identity
import internals
import nginx
import options
import wsgi
from environ import add_python_values, header_keys, take_over, to_headers, to_target

LOG = logging.getLogger('keystonemiddleware.auth_token')
NUMBERS = itertools.count()

# Added by every HTTP server, or by keystone_cache_control, and no business of the application's.
OF_THE_SERVER = {'server', 'date', 'connection', 'content-length', 'transfer-encoding', 'vary', 'cache-control'}

# Words of nginx's error log, and what auth_token says in that case.
LOG_WORDS = {
    'offers no usable version (v3 or v2.0)': 'versions [v3.0, v2.0]',
    'offers no usable version': 'versions [v3.0]',
    'cannot fetch certificates or revocation list': 'Fetch certificate config failed',
    'to be validated online': 'fallback to online validation',
}


class World:
    """The servers that all filters of a run share."""

    def __init__(self):
        self.programs = nginx.Programs()
        self.identity = identity.Identity()
        self.edges = []
        upstream = wsgi.Server(('127.0.0.1', 0), self.upstream)
        self.upstream_port = upstream.server_address[1]
        threading.Thread(target=upstream.serve_forever, daemon=True).start()

    def upstream(self, environ, start_response):
        """The application that the request is for."""
        name = environ.pop('HTTP_X_EDGE')
        return self.identity.filters[name].application(environ, start_response)

    def end_test(self):
        """Stops what the test has started, and tells of it."""
        for edge in self.edges:
            edge.stop()
        ended = Ended(self.edges)
        self.edges.clear()
        self.identity.filters.clear()
        self.identity.mock = None
        return ended

    def advance(self, seconds):
        for edge in self.edges:
            edge.advance(seconds)


class Ended:
    """How often a test has started nginx and asked it, what should not have happened, and the logs."""

    def __init__(self, edges):
        self.starts = sum(edge.starts for edge in edges)
        self.requests = sum(edge.requests for edge in edges)
        self.bad = [line for edge in edges for line in edge.bad]
        self.log = ''.join(edge.whole_log for edge in edges)


def edge_class(world, quotes):
    """The class for `auth_token.AuthProtocol`; `quotes` are those of the release's WWW-Authenticate."""
    return type('AuthProtocol', (Edge,), {'world': world, 'quotes': quotes})


class Edge(internals.Internals):
    world = None
    quotes = '"'

    def __init__(self, app, conf):
        self._app = app
        self.logger = LOG
        self.options = options.Options(conf)
        self.identity_uri = self.options.identity_uri()
        self.origin = options.origin(self.identity_uri)
        self.name = f'e{next(NUMBERS)}'
        self.nginx = None
        self.starts = self.requests = 0
        self.bad, self.whole_log = [], ''
        self.failure = self.seen = self.last_log = None
        self.is_probe = False
        self.failed_tries = set()
        self.tokens = {}
        self.wanted_certificate = None
        self.has_versions, self.is_version_wanted = True, False
        self.asked_about = []
        self._revocations = internals.Revocations(self)
        self._token_cache = internals.TokenCache(self)
        self._signing_directory = internals.SigningDirectory(self)
        self._identity_server = internals.IdentityServer()
        self.world.edges.append(self)
        self.world.identity.filters[self.name] = self
        if 'oslo_config_config' in conf:
            # Tests look whether that alone asks the identity service.
            self.start()

    # The filter.

    def __call__(self, environ, start_response):
        status, reason, headers, body = self.send(environ)
        start_response(f'{status} {reason or "Unknown"}', [
            (name, self.in_quotes(value) if name.lower() == 'www-authenticate' else value)
            for name, value in headers if name.lower() not in OF_THE_SERVER])
        return [body]

    def send(self, environ):
        self.start()
        self.failure = self.seen = None
        self.requests += 1
        token = environ.get('HTTP_X_AUTH_TOKEN')
        if token:
            self.tokens.update({name: token for name in examples.hashes(token)})
        answer, self.last_log = self.nginx.send(
            environ['REQUEST_METHOD'], to_target(environ), to_headers(environ))
        self.log()
        self._token_cache.note(self.last_log)
        if self.failure:
            raise self.failure
        if self.seen is None:
            self.mark_refused(environ)
        else:
            take_over(environ, self.seen)
        return answer

    def application(self, environ, start_response):
        """Calls the application with what nginx has sent, and notes what that was."""
        if self.is_probe:
            start_response('200 OK', [])
            return []
        self.seen = dict(environ)
        add_python_values(self.seen)
        environ.update({key: value for key, value in self.seen.items() if key.startswith('keystone.')})
        if environ.get('HTTP_X_IDENTITY_STATUS') == 'Confirmed':
            # auth_token sets all of them, to None where the token has no value.
            for key in header_keys():
                environ.setdefault(key, None)
        try:
            return [chunk.encode() if isinstance(chunk, str) else chunk for chunk in self._app(environ, start_response)]
        except Exception as error:
            self.failure = error
            raise

    def mark_refused(self, environ):
        """What the environ of a refused request would say, which the upstream does not get."""
        if self.last_log['auth_result'] == 'bad_service_token':
            environ['HTTP_X_SERVICE_IDENTITY_STATUS'] = 'Invalid'

    def in_quotes(self, value):
        return value.replace('"', self.quotes)

    def log(self):
        """auth_token's log lines, made of nginx's."""
        said = self.last_log
        if said['identity_status'] == 'Confirmed':
            parts = ['user: user_id %s, project_id %s, roles %s' % tuple(said[n] for n in ('user_id', 'project_id', 'roles'))]
            if said['service_user_id']:
                parts.append('service: user_id %s, project_id %s, roles %s'
                             % tuple(said['service_' + n] for n in ('user_id', 'project_id', 'roles')))
            LOG.debug('Received request from %s', ' '.join(parts))
        elif said['cache_status'] == 'HIT':
            LOG.debug('Cached token is marked unauthorized')
        for line in self.nginx.new_lines('error.log'):
            LOG.info('nginx: %s', line)
            for ours, theirs in LOG_WORDS.items():
                if ours in line:
                    LOG.info(theirs)

    # nginx.

    def start(self):
        if self.nginx:
            return
        if self._identity_server._adapter.get_endpoint() is None:
            # auth_token is to find no version that it can use.
            self.has_versions = False
            self.change('auth_version', 'auto')
        uri = f'http://127.0.0.1:{self.world.identity.port}/{self.name}{urllib.parse.urlsplit(self.identity_uri).path}'
        directives = dict(self.options.directives(uri))
        directives.setdefault('keystone_signing_dir', '@DIR@/keystone')
        # Ids are what oslo.middleware gives to requests, not auth_token.
        directives.setdefault('keystone_request_id', 'off')
        self.nginx = nginx.Nginx(self.world.programs, directives.items(), self.world.upstream_port, self.name)
        self.starts += 1

    def stop(self):
        if self.nginx:
            bad, log = self.nginx.stop()
            self.nginx = None
            self.bad += bad
            self.whole_log += log

    def advance(self, seconds):
        running = self.nginx
        if running:
            running.advance(seconds)

    def change(self, option, value):
        if self.nginx:
            raise nginx.Failed(f'{option} is changed after the start')
        self.options.changed[option] = value

    def probe(self, token):
        """The status of a request that no application sees."""
        self.is_probe = True
        try:
            status, *_ = self.send(webob.Request.blank('/', headers={'X-Auth-Token': token}).environ)
        finally:
            self.is_probe = False
        return status

    # The identity service, which asks what this filter's test wants of it.

    def prepared_answer(self, question):
        """The answer to a question that does not go to requests_mock."""
        if question.is_for(identity.LIST):
            return self._revocations.answer()
        if not self.has_versions:
            return 300, {'Content-Type': 'application/json'}, b'{"versions": {"values": []}}'
        if self.wanted_certificate and not question.is_for(self.wanted_certificate):
            return examples.certificate(question) or (401, {}, b'')
        token = question.token()
        if token or question.method == 'POST':
            self.asked_about.append(question.path)
            if self.is_version_wanted:
                return 401, {}, b''
            if self._revocations.is_forgotten(token):
                return 404, {}, b'{"error": {"code": 404, "title": "Not Found", "message": "Not Found"}}'
        return None

    def note_failed_try(self, path):
        """auth_token sleeps before each further try, and a test counts its calls of sleep()."""
        if path in self.failed_tries:
            time.sleep(0)
        self.failed_tries.add(path)
        # Nobody has to wait for the next try: the clock moves, once nginx knows of this one.
        threading.Timer(0.05, self.advance, [RETRY_DELAY]).start()


# More than the module waits between two tries, in seconds.
RETRY_DELAY = 5
