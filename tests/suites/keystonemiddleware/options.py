"""auth_token's options as directives of the module.

The values come from keystonemiddleware's own configuration object, so that types, defaults, old
names and sections are as auth_token would have them.
"""

import urllib.parse

from keystonemiddleware import auth_token
from keystonemiddleware._common import config
from keystonemiddleware.auth_token import _base
from oslo_config import cfg

# The options that have a directive of the same meaning.
DIRECTIVES = {
    'enforce_token_bind': 'keystone_enforce_token_bind',
    'hash_algorithms': 'keystone_hash_algorithms',
    'http_connect_timeout': 'keystone_connect_timeout',
    'http_request_max_retries': 'keystone_http_request_max_retries',
    'include_service_catalog': 'keystone_include_service_catalog',
    'revocation_cache_time': 'keystone_revocation_cache_time',
    'service_token_roles': 'keystone_service_token_roles',
    'service_token_roles_required': 'keystone_service_token_roles_required',
    'service_type': 'keystone_service_type',
    'signing_dir': 'keystone_signing_dir',
    'token_cache_time': 'keystone_token_cache_time',
}

# What a release does that has no such option.
ABSENT = {'service_token_roles_required': False}

# auth_token knows these too, and the module does them always, or has nothing like them:
# check_revocations_for_cached (always), cache (swift.cache: its own zone), memcached_servers and
# memcache_* (no test of these suites stores anything there), region_name and interface (the
# operator names the endpoint).


class Options:
    """The configuration of one filter."""

    def __init__(self, conf):
        self.conf = config.Config('auth_token', _base.AUTHTOKEN_GROUP, auth_token.list_opts(), dict(conf))
        self.group = self.get('auth_section') or _base.AUTHTOKEN_GROUP
        self.changed = {}

    def get(self, name, default=None):
        """What the option says, in the section of [keystone_authtoken] or of its own."""
        for group in (getattr(self, 'group', _base.AUTHTOKEN_GROUP), _base.AUTHTOKEN_GROUP):
            try:
                return self.conf.get(name, group=group)
            except (cfg.NoSuchOptError, cfg.NoSuchGroupError):
                pass
        return default

    def identity_uri(self):
        """Where auth_token would look for the identity service, without the version of its API."""
        for name in ('endpoint', 'auth_url', 'identity_uri'):
            if self.get(name):
                return without_version(self.get(name))
        # Of releases before Newton, in parts.
        host = self.get('auth_host', '127.0.0.1')
        host = f'[{host}]' if ':' in host else host
        uri = f'{self.get("auth_protocol", "https")}://{host}:{self.get("auth_port", 35357)}'
        return without_version(f'{uri}/{(self.get("auth_admin_prefix") or "").strip("/")}')

    def auth_uri(self):
        """What clients are told."""
        told = self.get('www_authenticate_uri') or self.get('auth_uri')
        return told or origin(self.identity_uri())

    def delay(self):
        return self.changed.get('delay_auth_decision', self.get('delay_auth_decision'))

    def directives(self, identity_uri):
        """The lines for an identity service that is at `identity_uri`."""
        lines = [
            ('keystone_auth', 'delay' if self.delay() else 'on'),
            ('keystone_auth_uri', quoted(self.auth_uri())),
            ('keystone_identity_uri', quoted(identity_uri)),
            ('keystone_auth_version', self.auth_version()),
            *self.credentials(),
        ]
        for name, directive in DIRECTIVES.items():
            value = self.changed.get(name, self.get(name, ABSENT.get(name)))
            if value is not None and value != []:
                lines.append((directive, words(value)))
        return lines

    def auth_version(self):
        version = self.changed.get('auth_version') or self.get('auth_version')
        if self.get('endpoint') and not version:
            version = self.get('endpoint').rstrip('/').rpartition('/')[2]
        if not version:
            return 'auto'
        # v3.1 is v3, and v2 is v2.0.
        major = version.partition('.')[0]
        return {'v2': 'v2.0', 'v3': 'v3'}.get(major, version)

    def credentials(self):
        token = self.get('token') or self.get('admin_token')
        if token:
            return [('keystone_admin_token', quoted(token))]
        # Some tests leave the password or the project out, because they are not used there. The module
        # refuses to start without.
        project = self.get('project_name') or self.get('admin_tenant_name') or self.get('project_id')
        return [
            ('keystone_username', quoted(self.get('username') or self.get('admin_user') or 'user')),
            ('keystone_password', quoted(self.get('password') or self.get('admin_password') or 'pass')),
            ('keystone_project_name', quoted(project or 'service')),
        ]


def without_version(uri):
    uri = uri.rstrip('/')
    head, _, tail = uri.rpartition('/')
    return head if tail in ('v2.0', 'v3') else uri


def origin(uri):
    parts = urllib.parse.urlsplit(uri)
    return f'{parts.scheme}://{parts.netloc}'


def words(value):
    if isinstance(value, bool):
        return 'on' if value else 'off'
    values = value if isinstance(value, (list, tuple)) else [value]
    return ' '.join(quoted(word) for word in values)


def quoted(value):
    text = str(value)
    if any(character in text for character in '"\\$\n'):
        raise ValueError(f'not for a configuration file: {text!r}')
    return f'"{text}"'
