"""From an environ to a request, and from what nginx has sent to an environ."""

import json
import urllib.parse

from keystoneauth1 import access
from keystonemiddleware.auth_token import _request
from keystonemiddleware.auth_token import _user_plugin

LATER = '2112-08-14T17:58:48Z'


def to_target(environ):
    path = urllib.parse.quote(environ.get('SCRIPT_NAME', '') + environ.get('PATH_INFO', '') or '/', encoding='latin-1')
    query = environ.get('QUERY_STRING')
    return f'{path}?{query}' if query else path


def to_headers(environ):
    headers = [(key[5:].replace('_', '-').title(), value)
               for key, value in environ.items() if key.startswith('HTTP_') and value is not None]
    if environ.get('AUTH_TYPE') == 'Negotiate':
        headers.append(('Authorization', 'Negotiate ' + environ['REMOTE_USER']))
    if 'HTTP_HOST' not in environ:
        headers.append(('Host', 'localhost'))
    return headers


def take_over(environ, seen):
    """Makes the request's headers those that the application has seen, as the filter does in place."""
    for key in [key for key in environ if key.startswith('HTTP_') and key not in seen]:
        del environ[key]
    left = ('HTTP_HOST', 'HTTP_CONNECTION', 'HTTP_AUTHORIZATION')
    environ.update({key: value for key, value in seen.items()
                    if key.startswith(('HTTP_', 'keystone.')) and key not in left})


def header_keys():
    names = [name % '' for name in _request._AuthTokenRequest._HEADER_TEMPLATE]
    names += list(_request._AuthTokenRequest._DEPRECATED_HEADER_MAP)
    return ['HTTP_' + name.upper().replace('-', '_') for name in names]


def add_python_values(environ):
    """What auth_token gives a Python application beside the headers, made of the headers alone."""
    user = access_info(environ, 'HTTP_X_', json.loads(environ.get('HTTP_X_SERVICE_CATALOG') or '[]'))
    service = access_info(environ, 'HTTP_X_SERVICE_', [])
    environ['keystone.token_auth'] = _user_plugin.UserAuthPlugin(user, service)
    if user:
        environ['keystone.token_info'] = user._data


def access_info(environ, prefix, catalog):
    if environ.get(prefix + 'IDENTITY_STATUS') != 'Confirmed':
        return None

    def value(name):
        return environ.get(prefix + name)

    roles = [{'id': name, 'name': name} for name in value('ROLES').split(',') if name]
    if value('USER_DOMAIN_ID') is None:
        body = {'access': {'token': {'id': 'x', 'expires': LATER}, 'serviceCatalog': catalog,
                           'user': {'id': value('USER_ID'), 'name': value('USER_NAME'), 'roles': roles}}}
        if value('PROJECT_ID'):
            body['access']['token']['tenant'] = {'id': value('PROJECT_ID'), 'name': value('PROJECT_NAME')}
        return access.create(body=body)

    def named(name):
        return {'id': value(name + '_ID'), 'name': value(name + '_NAME')}

    token = {'expires_at': LATER, 'methods': ['password'], 'roles': roles, 'catalog': as_v3(catalog),
             'user': {**named('USER'), 'domain': named('USER_DOMAIN')}}
    if value('PROJECT_ID'):
        token['project'] = {**named('PROJECT'), 'domain': named('PROJECT_DOMAIN')}
    if value('DOMAIN_ID'):
        token['domain'] = named('DOMAIN')
    if environ.get('HTTP_X_IS_ADMIN_PROJECT'):
        token['is_admin_project'] = environ['HTTP_X_IS_ADMIN_PROJECT'] == 'True'
    # No header says which application credential it was.
    token['application_credential'] = {'id': Anything(), 'access_rules': Anything()}
    return access.create(body={'token': token}, auth_token='x')


def as_v3(catalog):
    """The service catalog of a header, which is in the format of API v2.0."""
    return [{'type': service['type'], 'name': service.get('name'), 'endpoints': [
        {'interface': kind, 'url': endpoint[kind + 'URL'], 'region': endpoint.get('region'), 'id': 'x'}
        for endpoint in service['endpoints'] for kind in ('public', 'internal', 'admin') if endpoint.get(kind + 'URL')]}
        for service in catalog]


class Anything:
    """The value of what no header carries: it is equal to whatever a test compares it with."""

    def __eq__(self, _):
        return True

    def __hash__(self):
        return 0
