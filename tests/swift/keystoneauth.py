"""The oracle: Swift's keystoneauth, its clean_acl and what they stand on.

Reads questions from stdin, a JSON object a line, and writes the answer to each
as a line of JSON; the first line tells about this Python. What is bytes on the
wire is text here whose characters are the bytes (Latin-1), as in WSGI.

    {"ask": "authorize", "options": {...}, "method": ..., "path": ...,
     "referer": ..., "user": {...}, "service": {...}, "acl": [HEADER, ACL]}

`options` are those of [filter:keystoneauth]. `user` is null for a request
without a valid token, or has "version" (2 or 3), the attributes of a token as
auth_token names them, and "roles". `service` is null, "Invalid" or of that form.
`referer` and `acl` may be null. The answer has the `decision`, and what
keystoneauth `said` to its log on the way; an `error` if clean_acl refuses the
ACL; and `raised` if it was the referer that Python cannot read, the decision
then being the one without any referrer allowed.

    {"ask": "split", "path": ...}
    {"ask": "host", "referer": ...}
    {"ask": "acl", "method": ..., "path": ...}
    {"ask": "edge", "user": {...}, "service": {...}}

"acl" is for the ACL that the controllers of the proxy want to be asked with,
"edge" for the identity that keystoneauth finds `behind_authtoken`, and that
`behind_edge`: behind contrib/keystone-edge, which has the same from headers.

Everything is real but the metadata of accounts, all of which exist and have
none, and what lies behind the controllers.
"""

import json
import logging
import pathlib
import sys
import urllib.parse
import warnings
from unittest import mock

warnings.simplefilter('ignore')  # eventlet says that it is old

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / 'contrib/keystone-edge'))

import keystone_edge
from swift.common import swob, utils
from swift.common.middleware import acl as swift_acl
from swift.common.middleware import keystoneauth
from swift.proxy.controllers import AccountController, ContainerController
from swift.proxy.controllers.obj import BaseObjectController

DECISIONS = {401: 'Unauthorized', 403: 'Forbidden', 404: 'NotFound'}
ATTRIBUTES = ['user_id', 'user_name', 'user_domain_id', 'user_domain_name',
              'project_id', 'project_name', 'project_domain_id', 'project_domain_name']


class Log:
    """Keeps what keystoneauth says, without its arguments."""

    def __init__(self):
        self.said = []

    def debug(self, message, *arguments):
        self.said.append(message)

    def warning(self, message, *arguments):
        pass


def account_info(environ, app, swift_source=None):
    return {'status': 204, 'account_really_exists': True, 'sysmeta': {}}


def controller(environ, start_response):
    """Stands where a controller of the proxy asks whether a request may pass."""
    request = swob.Request(environ)
    header, acl = environ.pop('test.acl') or (None, None)
    if header:
        try:
            # It is cleaned as it comes, and decoded when it is read again.
            request.acl = swob.wsgi_to_str(environ['swift.clean_acl'](header, acl))
        except ValueError as error:
            return {'error': str(error)}
    denial = environ['swift.authorize'](request)
    return {'decision': DECISIONS[denial.status_int] if denial else 'Allow'}


class KeystoneAuth(keystoneauth.KeystoneAuth):
    """Also says what it does not."""

    def _authorize_unconfirmed_identity(self, *arguments):
        authorized = super()._authorize_unconfirmed_identity(*arguments)
        self.logger.debug(f'by referrer: {authorized}')
        return authorized


class Filters:
    """One for all questions with the same options."""

    def __init__(self):
        self.made = {}

    def __call__(self, options):
        key = json.dumps(options, sort_keys=True)
        if key not in self.made:
            self.made[key] = KeystoneAuth(controller, options)
        return self.made[key]


def environ_of(question):
    environ = swob.Request.blank('/').environ
    environ['REQUEST_METHOD'] = question['method']
    environ['PATH_INFO'] = question['path']
    environ['test.acl'] = question['acl']
    if question['referer'] is not None:
        environ['HTTP_REFERER'] = question['referer']
    user, service = question['user'], question['service']
    environ['HTTP_X_IDENTITY_STATUS'] = 'Confirmed' if user else 'Invalid'
    if user:
        tell(environ, 'HTTP_X_', user)
        environ['keystone.token_info'] = {{2: 'access', 3: 'token'}[user['version']]: {}}
    if service == 'Invalid':
        environ['HTTP_X_SERVICE_IDENTITY_STATUS'] = 'Invalid'
    elif service:
        environ['HTTP_X_SERVICE_IDENTITY_STATUS'] = 'Confirmed'
        tell(environ, 'HTTP_X_SERVICE_', service)
    return environ


def tell(environ, prefix, token):
    # auth_token sets the header to None where a token has no value.
    for attribute in ATTRIBUTES:
        environ[prefix + attribute.upper()] = token[attribute]
    environ[prefix + 'ROLES'] = ','.join(token['roles'])


def authorize(question, filters):
    auth = filters(question['options'])
    auth.logger = Log()
    try:
        answer = auth(environ_of(question), None)
    except ValueError:
        # No other is left: those of clean_acl and of split_path are caught.
        auth.logger = Log()
        real, swift_acl.referrer_allowed = swift_acl.referrer_allowed, lambda *_: False
        try:
            answer = auth(environ_of(question), None)
        finally:
            swift_acl.referrer_allowed = real
        answer['raised'] = True
    return {**answer, 'said': auth.logger.said}


def split(question, filters):
    try:
        return {'segments': utils.split_path(question['path'], 1, 4, True)}
    except ValueError:
        return {'segments': None}


def host(question, filters):
    """As referrer_allowed takes it from the referer."""
    try:
        return {'host': urllib.parse.urlparse(question['referer']).hostname or 'unknown'}
    except ValueError:
        return {'host': None}


def acl(question, filters):
    """As the proxy's handle_request goes about it, with an authorize that refuses whatever it is asked."""
    _, *names = utils.split_path(question['path'], 1, 4, True)
    names = [name for name in names if name]
    kinds = [None, AccountController, ContainerController, BaseObjectController]
    acls = {'read_acl': 'Read', 'write_acl': 'Write'}
    stored = {'X-Container-Read': 'Read', 'X-Container-Write': 'Write', 'X-Backend-Cached-Results': 'true'}
    asked = []

    def authorize(request):
        asked.append(request.acl)
        return swob.HTTPForbidden(request=request)

    app = mock.MagicMock(auto_create_account_prefix='.', recheck_listing_shard_ranges=0)
    app.get_object_ring.return_value.get_nodes.return_value = (0, [])
    controller = kinds[len(names)](app, *names)
    controller.account_info = lambda *_: (0, [None], 0)
    controller.container_info = lambda *_: {**acls, 'storage_policy': 0, 'sync_key': None}
    controller._GETorHEAD_from_backend = lambda request: swob.Response(request=request, headers=stored)
    if question['method'] not in controller.allowed_methods:
        return {'acl': None, 'is_known': False}
    handler = getattr(controller, question['method'])
    request = swob.Request.blank(question['path'], environ={
        'REQUEST_METHOD': question['method'], 'swift.authorize': authorize})
    authorize(request)
    if getattr(handler, 'delay_denial', False):
        answer = handler(request)
        assert answer.status_int == 403 and len(asked) > 1, question
    return {'acl': asked[-1], 'is_known': True}


def edge(question, filters):
    question = {'method': 'GET', 'path': '/', 'acl': None, 'referer': None, **question}
    behind_authtoken, behind_edge = environ_of(question), environ_of(question)
    del behind_edge['keystone.token_info']
    for name in [name for name in behind_edge if name.startswith('HTTP_')]:
        value = behind_edge.pop(name)
        if value is not None:
            behind_edge[name] = swob.str_to_wsgi(value)
    behind_edge['REMOTE_ADDR'] = '192.0.2.1'
    gateway = keystone_edge.filter_factory({}, gateway_addresses='192.0.2.1')
    gateway(lambda environ, start_response: None)(behind_edge, None)

    identity = filters({})._keystone_identity
    return {'behind_authtoken': identity(behind_authtoken), 'behind_edge': identity(behind_edge)}


def main():
    logging.disable()
    keystoneauth.get_account_info = account_info
    filters = Filters()
    # Python 3.11 looked less and less away at odd referers; those before this read more.
    print(json.dumps({'is_strict': hasattr(urllib.parse, '_check_bracketed_netloc')}))
    for line in sys.stdin:
        question = json.loads(line)
        answers = {'acl': acl, 'authorize': authorize, 'edge': edge, 'host': host, 'split': split}
        print(json.dumps(answers[question['ask']](question, filters)))


if __name__ == '__main__':
    main()
