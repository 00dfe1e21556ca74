"""A Swift with the pipeline of its own sample, for its functional tests.

    cluster.py DIRECTORY --account N --container N --object N --proxy N --memcached HOST:PORT
               [--identity URI --password PASSWORD | --filter]

The servers, rings and devices are those of tests/keystone/serve_swift.py. The
proxy has every middleware that the functional tests ask for, and a second
storage policy. With --identity its pipeline has authtoken, which validates
tokens there as the user "gateway"; with --filter it has contrib/keystone-edge in
the place of authtoken; without, the proxy believes the identity headers that it
gets, as behind a gateway.
"""

import argparse
import os
import pathlib
import signal
import sys
import warnings

warnings.simplefilter('ignore')  # eventlet says that it is old
sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / 'keystone'))

from swift.common import constraints, storage_policy, utils

# A small limit of the size of files, so that the tests of it need not send 5 GiB. ext4 has room for 4 KiB of extended
# attributes, where Swift keeps the metadata of an object.
SWIFT = '''\
[swift-hash]
swift_hash_path_prefix = prefix
swift_hash_path_suffix = suffix

[swift-constraints]
max_file_size = 8388610
max_meta_count = 20
max_meta_overall_size = 1024

[storage-policy:0]
name = Policy-0
default = yes

[storage-policy:1]
name = Policy-1
'''

SERVERS = ['account', 'container', 'object', 'proxy']

# As in Swift's sample.
WITH_AUTHTOKEN = 'catch_errors gatekeeper healthcheck proxy-logging cache domain_remap etag-quoter listing_formats ' \
                 'container_sync bulk tempurl ratelimit formpost authtoken keystoneauth staticweb copy ' \
                 'container-quotas account-quotas slo dlo versioned_writes symlink proxy-logging proxy-server'
# As nginx-conf/swift-edge.conf has it: without authtoken, and bulk behind keystoneauth.
BEHIND_EDGE = WITH_AUTHTOKEN.replace(' bulk', '').replace('authtoken keystoneauth', 'keystoneauth bulk')
# As contrib/keystone-edge/README.md has it: behind cache, and in the place of authtoken.
WITH_FILTER = WITH_AUTHTOKEN.replace(' cache ', ' cache keystone-edge ').replace('authtoken', 'keystone-edge')

PROXY = '''
[pipeline:main]
pipeline = {pipeline}

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
allow_open_expired = true

[filter:cache]
use = egg:swift#memcache
memcache_servers = {memcached}

[filter:domain_remap]
use = egg:swift#domain_remap
storage_domain = example.com

[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true

[filter:etag-quoter]
use = egg:swift#etag_quoter

[filter:keystoneauth]
use = egg:swift#keystoneauth
reseller_prefix = AUTH, SERVICE
operator_roles = admin, swiftoperator
SERVICE_service_roles = service
reseller_admin_role = ResellerAdmin
allow_names_in_acls = {names}
'''

AUTHTOKEN = '''
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = {identity}
auth_url = {identity}
auth_type = password
username = gateway
password = {password}
user_domain_id = default
project_name = service
project_domain_id = default
delay_auth_decision = true
include_service_catalog = false
service_token_roles_required = false
cache = swift.cache
'''

FILTER = '''
[filter:keystone-edge]
use = egg:keystone-edge#keystone_edge
gateway_addresses = 127.0.0.1
'''

# Those that need no setting.
PLAIN_FILTERS = ['catch_errors', 'gatekeeper', 'healthcheck', 'proxy-logging', 'listing_formats', 'container_sync',
                 'bulk', 'tempurl', 'ratelimit', 'formpost', 'staticweb', 'copy', 'container-quotas',
                 'account-quotas', 'slo', 'dlo', 'symlink']


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('directory', type=pathlib.Path)
    for server in SERVERS:
        parser.add_argument(f'--{server}', type=int, required=True, metavar='PORT')
    parser.add_argument('--memcached', required=True)
    parser.add_argument('--identity')
    parser.add_argument('--password')
    parser.add_argument('--filter', action='store_true')
    arguments = parser.parse_args()
    directory = arguments.directory.resolve()
    directory.mkdir()
    directory.joinpath('swift.conf').write_text(SWIFT)
    # The servers take policies and limits from there when they are imported.
    utils.set_swift_dir(str(directory))
    storage_policy.reload_storage_policies()
    constraints.reload_constraints()
    import serve_swift

    serve_swift.make_device(directory / 'node' / 'd1')
    for server in SERVERS:
        serve_swift.configure(directory, server, getattr(arguments, server), proxy(arguments))
    # The devices are the same for both policies.
    ring = directory.joinpath('object.ring.gz').read_bytes()
    directory.joinpath('object-1.ring.gz').write_bytes(ring)

    children = [serve_swift.start(directory / f'{server}-server.conf', module)
                for server, module in serve_swift.SERVERS.items()]
    while sys.stdin.buffer.read(4096):
        pass
    for child in children:
        os.kill(child, signal.SIGKILL)


def proxy(arguments):
    """The proxy's configuration, behind its [DEFAULT]."""
    pipeline, names, identity = BEHIND_EDGE, 'false', ''
    if arguments.filter:
        pipeline, names, identity = WITH_FILTER, 'true', FILTER
    elif arguments.identity:
        pipeline, names = WITH_AUTHTOKEN, 'true'
        identity = AUTHTOKEN.format(identity=arguments.identity, password=arguments.password)
    text = PROXY.format(pipeline=pipeline, memcached=arguments.memcached, names=names) + identity
    filters = (f"[filter:{name}]\nuse = egg:swift#{name.replace('-', '_')}\n" for name in PLAIN_FILTERS)
    return text + '\n' + ''.join(filters)


if __name__ == '__main__':
    main()
