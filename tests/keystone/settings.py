"""Keystone's settings: where a cloud's files are, and what differs from one process to the next."""

import pathlib

TEMPLATE = '''\
[DEFAULT]
public_endpoint = {uri}
use_stderr = true

[database]
connection = sqlite:///{cloud}/keystone.db?timeout=30
sqlite_synchronous = false

[token]
provider = {provider}
expiration = {lifetime}

[fernet_tokens]
key_repository = {cloud}/fernet-keys

[fernet_receipts]
key_repository = {cloud}/receipt-keys

[credential]
key_repository = {cloud}/credential-keys

[jwt_tokens]
jws_public_key_repository = {cloud}/jws-keys/public
jws_private_key_repository = {cloud}/jws-keys/private

# Passwords are checked often here, and protect nothing.
[identity]
password_hash_algorithm = bcrypt
password_hash_rounds = 4
max_password_length = 72

# Each process has a cache of its own: what is changed through one is seen there
# at once, and by the others when they have forgotten what they know.
[cache]
enabled = true
backend = dogpile.cache.memory
'''


def write(cloud, name, uri, provider='fernet', lifetime=3600):
    """Writes CLOUD/NAME.conf and says where it is."""
    path = pathlib.Path(cloud, f'{name}.conf')
    path.write_text(TEMPLATE.format(cloud=cloud, uri=uri, provider=provider, lifetime=lifetime), encoding='utf-8')
    return path
