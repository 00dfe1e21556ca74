"""Tests of keystone_edge that need neither Swift nor nginx: python3 -m unittest discover contrib/keystone-edge/tests."""

import logging
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keystone_edge

GATEWAY = '10.0.0.5'
ALICE = {
    'HTTP_X_IDENTITY_STATUS': 'Confirmed',
    'HTTP_X_USER_ID': 'u1', 'HTTP_X_USER_NAME': 'alice',
    'HTTP_X_USER_DOMAIN_ID': 'default', 'HTTP_X_USER_DOMAIN_NAME': 'Default',
    'HTTP_X_PROJECT_ID': 'p1', 'HTTP_X_PROJECT_NAME': 'demo',
    'HTTP_X_PROJECT_DOMAIN_ID': 'default', 'HTTP_X_PROJECT_DOMAIN_NAME': 'Default',
    'HTTP_X_ROLES': 'member,reader', 'HTTP_X_ROLE': 'member,reader', 'HTTP_X_TENANT_ID': 'p1',
}
GLANCE = {
    'HTTP_X_SERVICE_IDENTITY_STATUS': 'Confirmed', 'HTTP_X_SERVICE_USER_ID': 'u2', 'HTTP_X_SERVICE_ROLES': 'service',
}


def subrequest(environ, **headers):
    """What Swift's make_env() passes to the request of a middleware."""
    names = ['REQUEST_METHOD', 'PATH_INFO', 'HTTP_X_USER_ID', 'HTTP_X_PROJECT_ID', 'swift.infocache', 'swift.cache']
    return {**{name: environ[name] for name in names if name in environ}, **headers}


class Application:
    """The end of a pipeline: keeps the environment that reaches it."""

    def __call__(self, environ, start_response):
        self.seen = environ
        return [b'']


class Case(unittest.TestCase):
    def setUp(self):
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)

    def through(self, environ, **settings):
        """The environment behind the filter."""
        settings = settings or {'gateway_addresses': GATEWAY}
        application = Application()
        keystone_edge.filter_factory({}, **settings)(application)(environ, None)
        return application.seen

    def identity(self, environ):
        return {name: value for name, value in environ.items() if name in keystone_edge._IDENTITY_HEADERS}


class FromTheGateway(Case):
    def test_headers_stay_and_token_info_is_there(self):
        seen = self.through({'REMOTE_ADDR': GATEWAY, **ALICE})
        self.assertEqual(self.identity(seen), ALICE)
        self.assertEqual(seen['keystone.token_info'], {'token': {
            'user': {'id': 'u1', 'name': 'alice', 'domain': {'id': 'default', 'name': 'Default'}},
            'project': {'id': 'p1', 'name': 'demo', 'domain': {'id': 'default', 'name': 'Default'}},
            'roles': [{'name': 'member'}, {'name': 'reader'}],
        }})

    def test_a_token_without_domains_is_one_of_v2(self):
        headers = {name: value for name, value in ALICE.items() if 'DOMAIN' not in name}
        info = self.through({'REMOTE_ADDR': GATEWAY, **headers})['keystone.token_info']
        self.assertEqual(info, {'access': {
            'token': {'tenant': {'id': 'p1', 'name': 'demo'}},
            'user': {'id': 'u1', 'name': 'alice', 'roles': [{'name': 'member'}, {'name': 'reader'}]},
        }})

    def test_a_user_without_a_domain_does_not_hide_the_domain_of_the_project(self):
        headers = {name: value for name, value in ALICE.items() if 'USER_DOMAIN' not in name}
        info = self.through({'REMOTE_ADDR': GATEWAY, **headers})['keystone.token_info']
        self.assertEqual(info['token']['user'], {'id': 'u1', 'name': 'alice'})
        self.assertEqual(info['token']['project']['domain'], {'id': 'default', 'name': 'Default'})

    def test_a_token_without_a_project_is_one_of_v3(self):
        headers = {name: value for name, value in ALICE.items()
                   if 'DOMAIN' not in name and 'PROJECT' not in name and 'TENANT' not in name}
        for scope in [{}, {'HTTP_X_DOMAIN_ID': 'd1'}, {'HTTP_OPENSTACK_SYSTEM_SCOPE': 'all'}]:
            info = self.through({'REMOTE_ADDR': GATEWAY, **headers, **scope})['keystone.token_info']
            self.assertEqual(info['token']['user'], {'id': 'u1', 'name': 'alice'})

    def test_names_in_any_script(self):
        name = 'größe'.encode().decode('latin-1')
        info = self.through({'REMOTE_ADDR': GATEWAY, **ALICE, 'HTTP_X_USER_NAME': name})['keystone.token_info']
        self.assertEqual(info['token']['user']['name'], 'größe')

    def test_headers_have_the_text_that_auth_token_leaves_in_them(self):
        for name, text in [('alice', 'alice'), ('größe', 'größe'), ('Ã©', 'Ã©'), ('voilà', 'voilà'),
                           ('Žofie', 'Žofie'.encode().decode('latin-1'))]:
            value = name.encode().decode('latin-1')
            seen = self.through({'REMOTE_ADDR': GATEWAY, **ALICE, **GLANCE, 'HTTP_X_USER_NAME': value,
                                 'HTTP_X_SERVICE_ROLES': value, 'HTTP_X_OTHER': value})
            self.assertEqual(seen['HTTP_X_USER_NAME'], text)
            self.assertEqual(seen['HTTP_X_SERVICE_ROLES'], text)
            self.assertEqual(seen['HTTP_X_OTHER'], value)
            made = {**subrequest(seen), 'HTTP_X_AUTH_TOKEN': keystone_edge._PLACEHOLDER}
            self.assertEqual(self.through(made)['HTTP_X_USER_NAME'], text)
        seen = self.through({'REMOTE_ADDR': GATEWAY, **ALICE, 'HTTP_X_USER_NAME': '\xff'})
        self.assertEqual(seen['HTTP_X_USER_NAME'], '\xff')

    def test_scopes_of_a_domain_and_of_the_system(self):
        headers = {name: value for name, value in ALICE.items() if 'PROJECT' not in name and 'TENANT' not in name}
        domain = self.through({'REMOTE_ADDR': GATEWAY, **headers, 'HTTP_X_DOMAIN_ID': 'd1'})
        self.assertEqual(domain['keystone.token_info']['token']['domain'], {'id': 'd1'})
        system = self.through({'REMOTE_ADDR': GATEWAY, **headers, 'HTTP_OPENSTACK_SYSTEM_SCOPE': 'all'})
        self.assertEqual(system['keystone.token_info']['token']['system'], {'all': True})
        self.assertNotIn('project', system['keystone.token_info']['token'])

    def test_an_invalid_identity_has_no_token_info(self):
        seen = self.through({'REMOTE_ADDR': GATEWAY, 'HTTP_X_IDENTITY_STATUS': 'Invalid',
                             'HTTP_X_AUTH_TOKEN': 'AUTH_tk0', 'keystone.token_info': {'token': {}}})
        self.assertNotIn('keystone.token_info', seen)
        self.assertEqual(seen['HTTP_X_AUTH_TOKEN'], 'AUTH_tk0')

    def test_a_location_without_the_module_has_no_identity(self):
        headers = {**ALICE}
        del headers['HTTP_X_IDENTITY_STATUS']
        seen = self.through({'REMOTE_ADDR': GATEWAY, **headers})
        self.assertEqual(self.identity(seen), {'HTTP_X_IDENTITY_STATUS': 'Invalid'})

    def test_nothing_behind_sees_the_token(self):
        seen = self.through({'REMOTE_ADDR': GATEWAY, **ALICE, **GLANCE, 'HTTP_X_AUTH_TOKEN': 'secret',
                             'HTTP_X_SERVICE_TOKEN': 'secret'})
        self.assertNotIn('secret', repr(seen))


class FromOthers(Case):
    def test_headers_are_removed(self):
        for address in ['10.0.0.6', '::1', '', None, 'unix:']:
            environ = {**ALICE, **GLANCE, 'keystone.token_info': {'token': {}}}
            if address is not None:
                environ['REMOTE_ADDR'] = address
            seen = self.through(environ)
            self.assertEqual(self.identity(seen), {'HTTP_X_IDENTITY_STATUS': 'Invalid'}, address)
            self.assertNotIn('keystone.token_info', seen)

    def test_the_placeholder_is_worth_nothing(self):
        for address in ['10.0.0.6', GATEWAY]:
            seen = self.through({'REMOTE_ADDR': address, 'HTTP_X_AUTH_TOKEN': keystone_edge._PLACEHOLDER,
                                 'HTTP_X_IDENTITY_STATUS': 'Invalid'})
            self.assertEqual(self.identity(seen), {'HTTP_X_IDENTITY_STATUS': 'Invalid'})


class RequestsOfMiddlewares(Case):
    def outer(self, **headers):
        return self.through({'REMOTE_ADDR': GATEWAY, **ALICE, **headers})

    def test_one_with_the_token_has_the_identity(self):
        outer = self.outer(HTTP_X_AUTH_TOKEN='secret')
        inner = self.through(subrequest(outer, HTTP_X_AUTH_TOKEN=outer['HTTP_X_AUTH_TOKEN']))
        self.assertEqual(self.identity(inner), ALICE)
        self.assertEqual(inner['keystone.token_info'], outer['keystone.token_info'])
        again = self.through(subrequest(inner, HTTP_X_AUTH_TOKEN=inner['HTTP_X_AUTH_TOKEN']))
        self.assertEqual(self.identity(again), ALICE)

    def test_also_if_the_gateway_removes_tokens(self):
        outer = self.outer()
        inner = self.through(subrequest(outer, HTTP_X_AUTH_TOKEN=outer['HTTP_X_AUTH_TOKEN']))
        self.assertEqual(self.identity(inner), ALICE)

    def test_one_without_the_token_has_none(self):
        outer = self.outer(HTTP_X_AUTH_TOKEN='secret')
        for token in [{}, {'HTTP_X_AUTH_TOKEN': 'other'}]:
            inner = self.through(subrequest(outer, **token))
            self.assertEqual(self.identity(inner), {'HTTP_X_IDENTITY_STATUS': 'Invalid'})
            self.assertNotIn('keystone.token_info', inner)

    def test_the_service_goes_with_its_own_token(self):
        outer = self.outer(**GLANCE)
        user = self.through(subrequest(outer, HTTP_X_AUTH_TOKEN=outer['HTTP_X_AUTH_TOKEN']))
        self.assertEqual(self.identity(user), ALICE)
        both = self.through(subrequest(outer, HTTP_X_AUTH_TOKEN=outer['HTTP_X_AUTH_TOKEN'],
                                       HTTP_X_SERVICE_TOKEN=outer['HTTP_X_SERVICE_TOKEN']))
        self.assertEqual(self.identity(both), {**ALICE, **GLANCE})

    def test_one_of_an_anonymous_request_has_none(self):
        outer = self.through({'REMOTE_ADDR': GATEWAY, 'HTTP_X_IDENTITY_STATUS': 'Invalid'})
        inner = self.through(subrequest(outer, HTTP_X_AUTH_TOKEN=keystone_edge._PLACEHOLDER, **ALICE))
        self.assertEqual(self.identity(inner), {'HTTP_X_IDENTITY_STATUS': 'Invalid'})

    def test_what_another_middleware_has_set_in_between_stays(self):
        # s3token authenticates between the two places of the filter.
        seen = self.through({'REMOTE_ADDR': '10.0.0.6'})
        seen.update(ALICE)
        self.assertEqual(self.identity(self.through(seen)), ALICE)


class TheGateway(Case):
    def accepts(self, environ, **settings):
        return self.through({**ALICE, **environ}, **settings)['HTTP_X_IDENTITY_STATUS'] == 'Confirmed'

    def test_by_address(self):
        networks = {'gateway_addresses': '10.0.0.0/24, 2001:db8::/64'}
        for address, wanted in [('10.0.0.77', True), ('10.0.1.77', False), ('2001:db8::9', True),
                                ('::ffff:10.0.0.77', True), ('2001:db9::9', False)]:
            self.assertEqual(self.accepts({'REMOTE_ADDR': address}, **networks), wanted, address)

    def test_by_secret(self):
        with tempfile.NamedTemporaryFile() as file:
            file.write(b'0123456789abcdef\n')
            file.flush()
            settings = {'gateway_secret_file': file.name}
            right = {'HTTP_X_KEYSTONE_EDGE_SECRET': '0123456789abcdef'}
            self.assertTrue(self.accepts(right, **settings))
            for wrong in [{}, {'HTTP_X_KEYSTONE_EDGE_SECRET': ''}, {'HTTP_X_KEYSTONE_EDGE_SECRET': '0123456789abcdeg'},
                          {'HTTP_X_KEYSTONE_EDGE_SECRET': '\u0141'}]:
                self.assertFalse(self.accepts(wrong, **settings), wrong)
            self.assertNotIn('HTTP_X_KEYSTONE_EDGE_SECRET', self.through({**ALICE, **right}, **settings))
            both = {**settings, 'gateway_addresses': GATEWAY}
            self.assertFalse(self.accepts({**right, 'REMOTE_ADDR': '10.0.0.6'}, **both))
            self.assertFalse(self.accepts({'REMOTE_ADDR': GATEWAY}, **both))
            self.assertTrue(self.accepts({**right, 'REMOTE_ADDR': GATEWAY}, **both))

    def test_by_certificate(self):
        settings = {'gateway_certificate_subjects': 'CN=gateway,O=Example\nCN=other'}
        right = {'SSL_CLIENT_VERIFY': 'SUCCESS', 'SSL_CLIENT_S_DN': 'CN=gateway,O=Example'}
        self.assertTrue(self.accepts(right, **settings))
        for wrong in [{'SSL_CLIENT_VERIFY': 'NONE'}, {'SSL_CLIENT_VERIFY': 'GENEROUS'}, {'SSL_CLIENT_S_DN': 'CN=x'}]:
            self.assertFalse(self.accepts({**right, **wrong}, **settings), wrong)

    def test_settings_of_swifts_loader_are_ignored(self):
        settings = {'gateway_addresses': GATEWAY, '__name__': 'keystone-edge', 'log_level': 'INFO'}
        self.assertTrue(self.accepts({'REMOTE_ADDR': GATEWAY}, **settings))

    def test_settings_that_cannot_be_used(self):
        for settings, complaint in [
            ({}, 'set gateway_addresses'),
            ({'gateway_addresses': ''}, 'set gateway_addresses'),
            ({'gateway_addresses': 'gateway.example.com'}, 'gateway_addresses'),
            ({'gateway_secret_file': '/nonexistent'}, 'gateway_secret_file'),
            ({'gateway_secret_file': '/dev/null'}, '16 bytes'),
            ({'gateway_adresses': GATEWAY}, 'unknown setting: gateway_adresses'),
        ]:
            with self.assertRaisesRegex(ValueError, complaint):
                keystone_edge.filter_factory({}, **settings)


if __name__ == '__main__':
    unittest.main()
