"""Runs Swift's own tests of keystoneauth, and prints each decision in them: decisions.py SOURCE.

SOURCE is the folder of Swift's sdist. For each test there is a line of JSON with
its name, whether it `passed`, and its `decisions`: the arguments, the settings, and
the status of the refusal, or 200.

A decision is a call of authorize or authorize_anonymous. An identity is null for
the latter; its members are those of keystoneauth itself. Where a test asks a part of
it, _authorize_cross_tenant or _is_name_allowed_in_acl, the decision is that about a
request which depends on this part alone: a user without a role reads a container, whose
ACL is the argument, or names the user.

The settings are the current ones, not those that the filter was created with, because
some tests change them. `domain` is that of the account's project, as Swift keeps it.
"""

import json
import logging
import os
import pathlib
import sys
import unittest
import warnings

warnings.simplefilter('ignore')  # eventlet says that it is old

SOURCE = pathlib.Path(sys.argv[1]).resolve()
sys.path.insert(0, str(SOURCE))

from swift.common.middleware import keystoneauth

MODULE = 'test.unit.common.middleware.test_keystoneauth'


class KeystoneAuth(keystoneauth.KeystoneAuth):
    """Notes what it decides."""

    decisions = []
    # Whether a part is asked by a test, and not by authorize.
    is_alone = True

    def authorize(self, env_identity, req):
        KeystoneAuth.is_alone = False
        try:
            denial = super().authorize(env_identity, req)
        finally:
            KeystoneAuth.is_alone = True
        return self.note_request(req, env_identity, denial)

    def authorize_anonymous(self, req):
        return self.note_request(req, None, super().authorize_anonymous(req))

    def _authorize_cross_tenant(self, user_id, user_name, tenant_id, tenant_name, roles, allow_names=True):
        matched = super()._authorize_cross_tenant(user_id, user_name, tenant_id, tenant_name, roles, allow_names)
        if self.is_alone:
            identity = {'user': (user_id, user_name), 'tenant': (tenant_id, tenant_name), 'roles': [],
                        'service_roles': [], 'user_domain': (None, None), 'project_domain': (None, None),
                        'auth_version': 2}
            self.note('GET', '/v1/AUTH_of_nobody/c', identity, ','.join(roles), matched is not None,
                      allow_names_in_acls=allow_names)
        return matched

    def _is_name_allowed_in_acl(self, req, path_parts, identity):
        allowed = super()._is_name_allowed_in_acl(req, path_parts, identity)
        if self.is_alone:
            acl = f"{identity['tenant'][1] or '*'}:{identity['user'][1]}"
            self.note('GET', f'/v1/{path_parts[1]}/c', {**identity, 'roles': []}, acl, allowed,
                      domain=self._get_project_domain_id(req.environ)[1])
        return allowed

    def note_request(self, req, identity, denial):
        self.note(req.method, req.path_info, identity, getattr(req, 'acl', None), denial is None,
                  referer=req.referer, answer=denial.status_int if denial else 200,
                  service=req.environ.get('HTTP_X_SERVICE_IDENTITY_STATUS'),
                  status=req.environ.get('HTTP_X_IDENTITY_STATUS'),
                  sync='swift_sync_key' in req.environ)
        return denial

    def note(self, method, path, identity, acl, allowed, *, referer=None, answer=None, service=None,
             status='Confirmed', sync=False, domain=None, **settings):
        self.decisions.append({
            'method': method,
            'path': path,
            'referer': referer,
            'acl': acl,
            'identity': identity,
            'status': status,
            'service': service,
            'sync': sync,
            'domain': domain,
            'settings': {
                'reseller_prefixes': self.reseller_prefixes,
                'account_rules': self.account_rules,
                'reseller_admin_role': self.reseller_admin_role,
                'system_reader_roles': sorted(self.system_reader_roles),
                'allow_names_in_acls': self.allow_names_in_acls,
                'default_domain_id': self.default_domain_id,
                **settings,
            },
            'answer': answer or (200 if allowed else 403),
        })


class Result(unittest.TestResult):
    def __init__(self, results):
        super().__init__()
        self.results = results

    def startTest(self, test):
        super().startTest(test)
        KeystoneAuth.decisions.clear()

    def stopTest(self, test):
        super().stopTest(test)
        passed = all(test is not other for other, _ in self.failures + self.errors + self.skipped)
        name = test.id().removeprefix(MODULE + '.')
        print(json.dumps({'test': name, 'passed': passed, 'decisions': KeystoneAuth.decisions}),
              file=self.results)


def main():
    logging.disable()
    # The tests print, too.
    results = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    keystoneauth.KeystoneAuth = KeystoneAuth
    unittest.defaultTestLoader.loadTestsFromName(MODULE).run(Result(results))


if __name__ == '__main__':
    main()
