"""Makes a cloud's database and keys: cloud.py DIRECTORY.

Keys, tables and the first administrator come from keystone-manage, everything
else from Keystone's v3 API, asked within this process. DIRECTORY is made, and
gets keystone.db, the keys, and people.json with every id and secret.
"""

import json
import os
import pathlib
import sqlite3
import subprocess
import sys
import warnings

warnings.simplefilter('ignore')  # eventlet says that it is old

import settings

# Where it will be is said by public_endpoint when it runs.
IDENTITY = '$(public_endpoint)s/v3'
OBJECT_STORE = 'http://127.0.0.1:8080/v1/AUTH_$(project_id)s'

ADMIN_PASSWORD = 'adminpw'
ROLES = ('admin', 'manager', 'member', 'reader', 'service', 'Ops Team', 'Rôle-été', 'swiftoperator', 'ResellerAdmin')
DOMAINS = ('Default', 'Elsewhere')

# A project's key is its name, with @DOMAIN where that is not Default. Users' keys are the same, but for those whose
# name is hard to write.
PROJECTS = ('admin', 'service', 'demo', 'other', 'проект', 'demo@Elsewhere')

# Key, name, domain, {project: roles}; the password is the key and `pw`.
USERS = (
    ('gateway', 'gateway', 'Default', {'service': ['service']}),  # who validates
    ('glance', 'glance', 'Default', {'service': ['service']}),    # who sends X-Service-Token
    ('alice', 'alice', 'Default', {'demo': ['member']}),
    ('bob', 'bob', 'Default', {'demo': ['reader']}),
    ('carol', 'carol', 'Default', {'other': ['member']}),
    ('oper', 'oper', 'Default', {'demo': ['swiftoperator']}),
    ('reseller', 'reseller', 'Default', {'service': ['ResellerAdmin']}),  # of all accounts
    ('norole', 'norole', 'Default', {'demo': ['Ops Team', 'Rôle-été']}),
    ('dora', 'dora', 'Default', {}),                              # for a domain, below
    ('zofie', 'Žofie Novák 名前', 'Default', {'demo': ['member'], 'проект': ['member']}),
    ('alice@Elsewhere', 'alice', 'Elsewhere', {'demo@Elsewhere': ['member']}),
)
DOMAIN_ROLES = {'dora': ['manager', 'reader']}

# Of alice, for project demo; @demo@ is that project's id.
APPLICATION_CREDENTIALS = {
    'plain': None,
    'rules': [
        {'service': 'object-store', 'method': 'GET', 'path': '/v1/AUTH_@demo@/pub/**'},
        {'service': 'object-store', 'method': 'GET', 'path': '/v1/{account}/one/*'},
        {'service': 'object-store', 'method': 'PUT', 'path': '/v1/AUTH_@demo@/a.b/c'},
        {'service': 'compute', 'method': 'GET', 'path': '/v1/AUTH_@demo@/servers'},
    ],
}


def main(directory):
    cloud = pathlib.Path(directory).resolve()
    cloud.mkdir(mode=0o700)
    config = settings.write(cloud, 'setup', 'http://127.0.0.1:5000')
    make_keys_and_tables(cloud, config)
    people = Api(config).fill()
    text = json.dumps(people, indent=1, ensure_ascii=False, sort_keys=True)
    cloud.joinpath('people.json').write_text(text, encoding='utf-8')
    config.unlink()
    # With it, readers do not wait for writers.
    sqlite3.connect(cloud / 'keystone.db').execute('PRAGMA journal_mode = WAL')


def make_keys_and_tables(cloud, config):
    me = ('--keystone-user', str(os.getuid()), '--keystone-group', str(os.getgid()))
    jws = cloud / 'jws-keys'
    for name in ('private', 'public'):
        jws.joinpath(name).mkdir(parents=True)
    # The first three have nothing to do with each other.
    running = [
        manage(config, 'fernet_setup', *me),
        manage(config, 'credential_setup', *me),
        manage(config, 'create_jws_keypair', *me, cwd=jws),
    ]
    finish(manage(config, 'db_sync'))
    for process in running:
        finish(process)
    for name in ('private', 'public'):
        jws.joinpath(f'{name}.pem').rename(jws / name / f'{name}.pem')
    finish(manage(config, 'bootstrap', '--bootstrap-password', ADMIN_PASSWORD, '--bootstrap-region-id', 'RegionOne',
                  *(word for interface in ('admin', 'internal', 'public')
                    for word in (f'--bootstrap-{interface}-url', IDENTITY))))


def manage(config, *words, cwd=None):
    command = [pathlib.Path(sys.executable).with_name('keystone-manage'), '--config-file', config, *words]
    return subprocess.Popen(command, cwd=cwd, env={**os.environ, 'PYTHONWARNINGS': 'ignore'})


def finish(process):
    if process.wait() != 0:
        sys.exit(f'{process.args} failed with {process.returncode}')


class Api:
    """Keystone's v3 API without a socket in between."""

    def __init__(self, config):
        sys.argv = ['keystone']  # Keystone takes it for its own
        from keystone.server.flask import core
        from werkzeug.test import Client
        self.client = Client(core.initialize_application(name='public', config_files=[str(config)]))
        scope = {'project': {'name': 'admin', 'domain': {'id': 'default'}}}
        self.token = self.buy('admin', 'default', ADMIN_PASSWORD, scope)

    def ask(self, method, path, body=None, token=None):
        headers = {'X-Auth-Token': token or self.token}
        response = self.client.open('/v3' + path, method=method, json=body, headers=headers)
        if response.status_code >= 300:
            sys.exit(f'{method} {path}: {response.status} {response.text}')
        return response

    def buy(self, name, domain, password, scope):
        user = {'name': name, 'domain': {'id': domain}, 'password': password}
        identity = {'methods': ['password'], 'password': {'user': user}}
        response = self.client.post('/v3/auth/tokens', json={'auth': {'identity': identity, 'scope': scope}})
        if response.status_code != 201:
            sys.exit(f'no token for {name}: {response.status} {response.text}')
        return response.headers['X-Subject-Token']

    def find_or_make(self, kind, **member):
        query = '&'.join(f'{name}={value}' for name, value in member.items() if name in ('name', 'domain_id'))
        found = self.ask('GET', f'/{kind}s?{query}').json[f'{kind}s']
        return (found or [self.ask('POST', f'/{kind}s', {kind: member}).json[kind]])[0]['id']

    def fill(self):
        roles = {name: self.find_or_make('role', name=name) for name in ROLES}
        domains = {name: self.find_or_make('domain', name=name) for name in DOMAINS}
        projects = {}
        for key in PROJECTS:
            name, _, domain = key.partition('@')
            projects[key] = self.find_or_make('project', name=name, domain_id=domains[domain or 'Default'])

        users = {}
        for key, name, domain, grants in USERS:
            password, domain_id = f'{key}pw', domains[domain]
            user_id = self.find_or_make('user', name=name, domain_id=domain_id, password=password)
            users[key] = {'id': user_id, 'name': name, 'domain_id': domain_id, 'password': password,
                          'projects': list(grants)}
            for project, names in grants.items():
                for role in names:
                    self.ask('PUT', f'/projects/{projects[project]}/users/{user_id}/roles/{roles[role]}')
            for role in DOMAIN_ROLES.get(key, ()):
                self.ask('PUT', f'/domains/{domain_id}/users/{user_id}/roles/{roles[role]}')
        admin = self.ask('GET', '/users?name=admin&domain_id=default').json['users'][0]
        users['admin'] = {'id': admin['id'], 'name': 'admin', 'domain_id': 'default', 'password': ADMIN_PASSWORD,
                          'projects': ['admin']}

        # At the first login of a user something is written, which later ones in parallel would wait for.
        for user in users.values():
            self.buy(user['name'], user['domain_id'], user['password'], 'unscoped')

        self.make_catalog()
        credentials = self.make_application_credentials(users['alice'], projects['demo'])
        return {'roles': roles, 'domains': domains, 'projects': projects, 'users': users,
                'application_credentials': credentials}

    def make_catalog(self):
        service = self.find_or_make('service', name='swift', type='object-store')
        for interface in ('admin', 'internal', 'public'):
            endpoint = {'service_id': service, 'interface': interface, 'region_id': 'RegionOne', 'url': OBJECT_STORE}
            self.ask('POST', '/endpoints', {'endpoint': endpoint})

    def make_application_credentials(self, user, project):
        """Only the user itself can do that."""
        token = self.buy(user['name'], user['domain_id'], user['password'], {'project': {'id': project}})
        made = {}
        for name, rules in APPLICATION_CREDENTIALS.items():
            credential = {'name': name}
            if rules:
                credential['access_rules'] = [{**rule, 'path': rule['path'].replace('@demo@', project)}
                                              for rule in rules]
            answer = self.ask('POST', f'/users/{user["id"]}/application_credentials',
                              {'application_credential': credential}, token)
            answer = answer.json['application_credential']
            made[name] = {'id': answer['id'], 'secret': answer['secret']}
        return made


if __name__ == '__main__':
    main(sys.argv[1])
