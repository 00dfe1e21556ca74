# Licensed under the Apache License, Version 2.0: see LICENSE at the root of the project.
"""A WSGI filter that takes the place of keystonemiddleware's auth_token behind nginx.

nginx with ngx_http_keystone_module verifies tokens and sets the identity headers
(X-Identity-Status, X-User-Id, X-Roles, ...). Swift's middlewares expect two more
things of auth_token, and a header can carry neither of them:

- `keystone.token_info` in the WSGI environment. Without it s3token drops the
  identity headers, and keystoneauth ignores the domains of users and projects.
- An identity for the requests that a middleware makes itself (bulk deletes,
  archives). These carry the client's token and no identity header.

The filter provides both. It trusts a request only if it comes from the gateway,
by address, by a shared secret or by a TLS client certificate, and removes the
identity headers of all other requests. README.md has the settings.

The pipeline names the filter twice: in front of every middleware that makes
requests, and directly in front of keystoneauth. The first instance verifies the
sender; the second one gives identity to the requests that were made in between.
"""

import hmac
import ipaddress
import logging

__version__ = '0.1.0'

LOG = logging.getLogger(__name__)

#: What keystonemiddleware's auth_token sets for the user token and, with `Service-`, for a service token.
_PER_TOKEN = (
    'IDENTITY_STATUS', 'USER_ID', 'USER_NAME', 'USER_DOMAIN_ID', 'USER_DOMAIN_NAME', 'PROJECT_ID', 'PROJECT_NAME',
    'PROJECT_DOMAIN_ID', 'PROJECT_DOMAIN_NAME', 'DOMAIN_ID', 'DOMAIN_NAME', 'ROLES', 'IS_ADMIN_PROJECT',
)
_USER_HEADERS = frozenset(f'HTTP_X_{name}' for name in _PER_TOKEN) | {
    'HTTP_OPENSTACK_SYSTEM_SCOPE', 'HTTP_X_SERVICE_CATALOG',
    # Their names before Keystone's API v3.
    'HTTP_X_ROLE', 'HTTP_X_TENANT', 'HTTP_X_TENANT_ID', 'HTTP_X_TENANT_NAME', 'HTTP_X_USER',
}
_SERVICE_HEADERS = frozenset(f'HTTP_X_SERVICE_{name}' for name in _PER_TOKEN)
_IDENTITY_HEADERS = _USER_HEADERS | _SERVICE_HEADERS

#: Set in the environment of a request that the first instance has seen. Swift does not copy it to new requests.
_SEEN = 'keystone_edge.seen'
#: The entry of `swift.infocache`, a dictionary that Swift passes to the requests of its middlewares.
_INFOCACHE_KEY = 'keystone-edge'
#: Stands in the token headers of a request with an identity. Middlewares copy these to the requests that they make;
#: it is worth nothing outside of the process.
_PLACEHOLDER = 'keystone-edge'
_SECRET_HEADER = 'HTTP_X_KEYSTONE_EDGE_SECRET'


class Gateway:
    """Tells whether a request was sent by the gateway. Every condition that is configured must hold."""

    def __init__(self, networks=(), secret=None, subjects=()):
        if not networks and secret is None and not subjects:
            raise ValueError('keystone-edge: set gateway_addresses, gateway_secret_file or gateway_certificate_subjects: '
                             'without one of them, every client could choose its own identity')
        self._networks = tuple(networks)
        self._secret = secret
        self._subjects = frozenset(subjects)

    def has_sent(self, environ):
        """Whether the gateway has sent the request."""
        return (self._matches_address(environ.get('REMOTE_ADDR'))
                and self._matches_secret(environ.get(_SECRET_HEADER))
                and self._matches_certificate(environ))

    def _matches_address(self, address):
        if not self._networks:
            return True
        try:
            address = ipaddress.ip_address(address or '')
        except ValueError:
            return False
        mapped = getattr(address, 'ipv4_mapped', None)
        return any((mapped or address) in network for network in self._networks)

    def _matches_secret(self, value):
        if self._secret is None:
            return True
        # PEP 3333: the bytes of a header, as Latin-1.
        return hmac.compare_digest((value or '').encode('latin-1', 'replace'), self._secret)

    def _matches_certificate(self, environ):
        if not self._subjects:
            return True
        return (environ.get('SSL_CLIENT_VERIFY') == 'SUCCESS'
                and environ.get('SSL_CLIENT_S_DN') in self._subjects)


class KeystoneEdge:
    """The filter."""

    def __init__(self, app, gateway):
        self._app = app
        self._gateway = gateway

    def __call__(self, environ, start_response):
        if not environ.get(_SEEN):
            environ[_SEEN] = True
            self._identify(environ)
        return self._app(environ, start_response)

    def _identify(self, environ):
        made_by = environ.get('swift.infocache', {}).get(_INFOCACHE_KEY)
        from_gateway = self._gateway.has_sent(environ)
        environ.pop(_SECRET_HEADER, None)
        if made_by is not None:
            # A middleware of this process has made it: it carries the environment of another request.
            _remove(environ, _IDENTITY_HEADERS)
            _restore(environ, made_by)
        elif not from_gateway:
            if environ.get('HTTP_X_IDENTITY_STATUS'):
                LOG.warning('identity headers of %s ignored: it is not the gateway', environ.get('REMOTE_ADDR'))
            _remove(environ, _IDENTITY_HEADERS)
        elif 'HTTP_X_IDENTITY_STATUS' not in environ:
            # The gateway sets it for each request in a location where the module is on.
            LOG.warning('request of the gateway without X-Identity-Status: is keystone_auth set in this location?')
            _remove(environ, _IDENTITY_HEADERS)
        else:
            _keep(environ)
        environ.setdefault('HTTP_X_IDENTITY_STATUS', 'Invalid')
        if environ['HTTP_X_IDENTITY_STATUS'] == 'Confirmed':
            environ['keystone.token_info'] = token_info(environ)
        else:
            environ.pop('keystone.token_info', None)
        _decode(environ)


def _decode(environ):
    """Makes of the bytes of the headers (PEP 3333) the text that auth_token leaves in them.

    keystoneauth compares it with the text of ACLs and settings. What Latin-1 does not have stays as
    it is: Swift answers 503 to such text, also behind auth_token.
    """
    for name in _IDENTITY_HEADERS.intersection(environ):
        try:
            text = environ[name].encode('latin-1').decode('utf-8')
            text.encode('latin-1')
        except UnicodeError:
            continue
        environ[name] = text


def _keep(environ):
    """Remembers the identity for the requests that are made on behalf of this one."""
    kept = {}
    for token, headers in (('HTTP_X_AUTH_TOKEN', _USER_HEADERS), ('HTTP_X_SERVICE_TOKEN', _SERVICE_HEADERS)):
        status = 'HTTP_X_IDENTITY_STATUS' if token == 'HTTP_X_AUTH_TOKEN' else 'HTTP_X_SERVICE_IDENTITY_STATUS'
        if environ.get(status) == 'Confirmed':
            kept[token] = {name: environ[name] for name in headers if name in environ}
            # Nothing behind the gateway needs the token, if it has come here at all. A token of another kind, of
            # TempAuth, is not confirmed, and stays.
            environ[token] = _PLACEHOLDER
    # Also if it is empty: a request with this entry was made here, and is nobody else's.
    environ.setdefault('swift.infocache', {})[_INFOCACHE_KEY] = kept


def _restore(environ, kept):
    """Gives a request that a middleware has made the identities whose tokens it carries, as auth_token would."""
    for token, headers in kept.items():
        if environ.get(token) == _PLACEHOLDER:
            environ.update(headers)


def _remove(environ, names):
    for name in names:
        environ.pop(name, None)


def token_info(environ):
    """The part of Keystone's answer about a token that the identity headers tell.

    In the form of API v3, or of v2.0 for a token with a project and without any
    domain, as auth_token leaves it in `keystone.token_info`. keystoneauth ignores
    all domains of a token of v2.0: one of v3 stays one of v3 if its user is
    federated and has no domain.
    """
    def value(name):
        header = environ.get(f'HTTP_X_{name}')
        # Header values are UTF-8, shown as Latin-1 (PEP 3333).
        return header and header.encode('latin-1', 'replace').decode('utf-8', 'replace')

    def thing(kind):
        fields = {'id': value(f'{kind}_ID'), 'name': value(f'{kind}_NAME')}
        domain = {'id': value(f'{kind}_DOMAIN_ID'), 'name': value(f'{kind}_DOMAIN_NAME')}
        fields = {key: text for key, text in fields.items() if text}
        domain = {key: text for key, text in domain.items() if text}
        return {**fields, 'domain': domain} if domain else fields

    roles = [{'name': name} for name in (value('ROLES') or '').split(',') if name]
    user, project = thing('USER'), thing('PROJECT')
    if project and 'domain' not in user and 'domain' not in project:
        return {'access': {'token': {'tenant': project}, 'user': {**user, 'roles': roles}}}
    token = {'user': user, 'roles': roles}
    if project:
        token['project'] = project
    domain = {'id': value('DOMAIN_ID'), 'name': value('DOMAIN_NAME')}
    if any(domain.values()):
        token['domain'] = {key: text for key, text in domain.items() if text}
    if environ.get('HTTP_OPENSTACK_SYSTEM_SCOPE') == 'all':
        token['system'] = {'all': True}
    return {'token': token}


def _words(text):
    return (text or '').replace(',', ' ').split()


def _networks(text):
    try:
        return [ipaddress.ip_network(word) for word in _words(text)]
    except ValueError as error:
        raise ValueError(f'keystone-edge: gateway_addresses: {error}') from None


def _secret(path):
    if not path:
        return None
    try:
        with open(path, 'rb') as file:
            secret = file.read().rstrip(b'\r\n')
    except OSError as error:
        raise ValueError(f'keystone-edge: gateway_secret_file: {error}') from None
    if len(secret) < 16:
        raise ValueError(f'keystone-edge: gateway_secret_file: {path} must hold at least 16 bytes')
    return secret


def _subjects(text):
    """One distinguished name a line, since it holds commas and blanks."""
    return [line.strip() for line in (text or '').splitlines() if line.strip()]


_SETTINGS = frozenset(['gateway_addresses', 'gateway_secret_file', 'gateway_certificate_subjects'])


def filter_factory(global_conf, **local_conf):
    """What PasteDeploy calls for `use = egg:keystone-edge#keystone_edge`."""
    # Swift's loader adds `__name__`, and every section may have settings for the log.
    unknown = sorted(name for name in set(local_conf) - _SETTINGS if not name.startswith(('__', 'log_')))
    if unknown:
        raise ValueError(f"keystone-edge: unknown setting: {', '.join(unknown)}")
    gateway = Gateway(
        networks=_networks(local_conf.get('gateway_addresses')),
        secret=_secret(local_conf.get('gateway_secret_file')),
        subjects=_subjects(local_conf.get('gateway_certificate_subjects')),
    )
    return lambda app: KeystoneEdge(app, gateway)
