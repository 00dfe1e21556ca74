"""A Swift: serve_swift.py DIRECTORY --account N --container N --object N --proxy N.

It creates DIRECTORY: rings of one replica on one device, which is a folder there,
and the configurations. The four servers listen on 127.0.0.1 at the given ports,
and exit with this program, which exits when its stdin is closed.

The proxy has no authtoken in its pipeline: every client has
the identity in its headers, as behind a gateway. With --memcached HOST:PORT and --identity URI
contrib/keystone-edge replaces authtoken, among the middlewares that
need it: bulk in front of keystoneauth, s3api and s3token, and TempAuth.
"""

import argparse
import ctypes
import os
import pathlib
import signal
import sys
import warnings

warnings.simplefilter('ignore')  # eventlet says that it is old

import swift.account.server
import swift.container.server
import swift.obj.server
import swift.proxy.server
from swift.common.ring import RingBuilder

SERVERS = {
    'account': swift.account.server,
    'container': swift.container.server,
    'object': swift.obj.server,
    'proxy': swift.proxy.server,
}

SWIFT = '''\
[swift-hash]
swift_hash_path_prefix = prefix
swift_hash_path_suffix = suffix

[storage-policy:0]
name = Policy-0
default = yes
'''

# Another cluster signs its requests with the key of the realm and the one of the container.
REALMS = '''\
[realm]
key = realm-key
cluster_here = http://127.0.0.1/v1/
'''

SERVER = '''\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {directory}
devices = {directory}/node
mount_check = false
disable_fallocate = true
recon_cache_path = {directory}
log_name = {server}
log_level = WARNING
log_address = {directory}/no-syslog
# On a busy machine a server is late, not gone. Nobody brings listings up to date later.
conn_timeout = 10
node_timeout = 30
container_update_timeout = 10
'''

STORAGE = '''
[pipeline:main]
pipeline = {server}-server

[app:{server}-server]
use = egg:swift#{server}
'''

# As nginx-conf/swift-edge.conf wants it.
PIPELINE = 'catch_errors gatekeeper healthcheck proxy-logging container_sync tempurl ' \
           'keystoneauth bulk slo proxy-logging proxy-server'
# As contrib/keystone-edge/README.md has it, with TempAuth.
FILTER_PIPELINE = 'catch_errors gatekeeper healthcheck proxy-logging cache keystone-edge container_sync bulk tempurl ' \
                  's3api s3token ' \
                  'keystone-edge keystoneauth tempauth slo proxy-logging proxy-server'

PROXY = '''
[pipeline:main]
pipeline = {pipeline}

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true

[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:container_sync]
use = egg:swift#container_sync
[filter:tempurl]
use = egg:swift#tempurl
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo

[filter:keystoneauth]
use = egg:swift#keystoneauth
reseller_prefix = AUTH, SERVICE
operator_roles = admin, swiftoperator, member
project_reader_roles = reader
SERVICE_service_roles = service
reseller_admin_role = ResellerAdmin
allow_names_in_acls = {names}
'''

FILTERS = '''
[filter:keystone-edge]
use = egg:keystone-edge#keystone_edge
gateway_addresses = 127.0.0.1

[filter:cache]
use = egg:swift#memcache
memcache_servers = {memcached}

[filter:s3api]
use = egg:swift#s3api

[filter:s3token]
use = egg:swift#s3token
auth_uri = {identity}
# Keystone tells nobody else whether a signature is right.
auth_url = {identity}
auth_type = password
username = gateway
password = gatewaypw
user_domain_id = default
project_name = service
project_domain_id = default
# Only an administrator may fetch the secrets of users.
secret_cache_duration = 0

[filter:tempauth]
use = egg:swift#tempauth
reseller_prefix = TEMP
user_temporary_tester = testing .admin
'''


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('directory')
    for server in SERVERS:
        parser.add_argument(f'--{server}', type=int, required=True, metavar='PORT')
    parser.add_argument('--memcached', metavar='HOST:PORT')
    parser.add_argument('--identity', metavar='URI')
    arguments = vars(parser.parse_args())
    directory = pathlib.Path(arguments['directory']).resolve()
    make_device(directory / 'node' / 'd1')
    directory.joinpath('swift.conf').write_text(SWIFT)
    directory.joinpath('container-sync-realms.conf').write_text(REALMS)
    for server in SERVERS:
        configure(directory, server, arguments[server], proxy(arguments))

    children = [start(directory / f'{server}-server.conf', module) for server, module in SERVERS.items()]
    while sys.stdin.buffer.read(4096):
        pass
    for child in children:
        os.kill(child, signal.SIGKILL)


def proxy(arguments):
    """The proxy's configuration, behind its [DEFAULT]."""
    if not arguments['identity']:
        return PROXY.format(pipeline=PIPELINE, names='false')
    return PROXY.format(pipeline=FILTER_PIPELINE, names='true') + FILTERS.format(**arguments)


def make_device(device):
    """Swift keeps what it knows of an object in extended attributes of its file."""
    device.mkdir(parents=True)
    try:
        os.setxattr(device, 'user.swift.metadata', b'x' * 2048)
    except OSError as error:
        sys.exit(f'{device} cannot hold the extended attributes that Swift needs ({error.strerror}): '
                 'set TMPDIR to a directory on ext4 or XFS')


def configure(directory, server, port, proxy):
    text = SERVER + (proxy if server == 'proxy' else STORAGE)
    user = pathlib.Path('/proc/self').owner()
    text = text.format(port=port, user=user, directory=directory, server=server)
    directory.joinpath(f'{server}-server.conf').write_text(text)
    if server != 'proxy':
        builder = RingBuilder(4, 1, 0)
        builder.add_dev({'region': 1, 'zone': 1, 'ip': '127.0.0.1', 'port': port, 'device': 'd1', 'weight': 1})
        builder.rebalance()
        builder.get_ring().save(str(directory / f'{server}.ring.gz'))


def start(config, module):
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    # The child's end comes with the parent's, however that ends.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv[1:] = [str(config), '--verbose']  # to stderr
    module.main()


PR_SET_PDEATHSIG = 1

if __name__ == '__main__':
    main()
