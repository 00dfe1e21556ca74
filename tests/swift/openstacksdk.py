"""What openstacksdk does with objects: openstacksdk.py STORAGE_URL TOKEN FOLDER.

FOLDER holds `big` and `files/a.txt`, and the container `sdk` holds a.txt and
sub/b.txt. For each operation there is one line: its name, a colon, and `works`,
the error, or that the answer lacks something.
"""

import pathlib
import sys
import warnings

warnings.simplefilter('ignore')

import openstack
from keystoneauth1 import session, token_endpoint

storage_url, token, folder = sys.argv[1:]
folder = pathlib.Path(folder)
cloud = openstack.connection.Connection(
    session=session.Session(auth=token_endpoint.Token(storage_url, token)),
    object_store_endpoint_override=storage_url,
    object_store_api_version='1',
)


def names(things):
    return sorted(thing.name for thing in things)


def delete_all():
    for name in names(cloud.list_objects('sdk')):
        cloud.delete_object('sdk', name)  # of a manifest, with its segments


OPERATIONS = {
    'create_container': lambda: cloud.create_container('sdk-new'),
    'get_container': lambda: cloud.get_container('sdk-new'),
    'list_containers': lambda: 'sdk-new' in names(cloud.list_containers()),
    'create_object': lambda: cloud.create_object('sdk', 'c', filename=str(folder / 'files/a.txt')),
    'create_object with data': lambda: cloud.create_object('sdk', 'd', data=b'data'),
    'create_object in segments': lambda: cloud.create_object(
        'sdk', 'e', filename=str(folder / 'big'), segment_size=50_000),
    'get_object': lambda: cloud.get_object('sdk', 'a.txt')[1] == 'hello\n',
    'download_object': lambda: cloud.object_store.download_object('sub/b.txt', container='sdk') == b'world\n',
    'get_object_metadata': lambda: 'x-sdk-md5' in cloud.get_object_metadata('sdk', 'c'),
    'update_object': lambda: cloud.update_object('sdk', 'c', {'x-object-meta-colour': 'blue'}) or True,
    'get_object_capabilities': lambda: cloud.get_object_capabilities().swift['max_file_size'] > 0,
    'list_objects': lambda: {'a.txt', 'sub/b.txt'} <= set(names(cloud.list_objects('sdk'))),
    'objects with a prefix': lambda: names(cloud.object_store.objects('sdk', prefix='sub')) == ['sub/b.txt'],
    'delete_object': lambda: cloud.delete_object('sdk', 'a.txt'),
    'delete_container, empty': lambda: cloud.delete_container('sdk-new'),
    'delete_container': lambda: (delete_all(), cloud.delete_container('sdk'))[1],
}

for name, operation in OPERATIONS.items():
    try:
        result = operation()
        outcome = 'lacks something' if result is False else 'works'
    except Exception as error:
        outcome = f'{type(error).__name__}: {error}'.replace('\n', ' ')
    print(f'{name}: {outcome}')
