"""The oracle: auth_token of keystonemiddleware 4.9.1 in front of an echo.

The first line on stdout is `PORT n`; from then on 127.0.0.1:n answers. README.md
describes what the application returns and which headers it uses.
"""

import compat  # first: the rest does not import without it

import argparse
import logging
import sys

from keystonemiddleware import auth_token

import wsgi

# The options of auth_token that have an argument of their own here.
OPTIONS = (
    'admin_password', 'admin_tenant_name', 'admin_token', 'admin_user', 'auth_uri', 'auth_version',
    'check_revocations_for_cached', 'delay_auth_decision', 'enforce_token_bind', 'hash_algorithms',
    'http_request_max_retries', 'identity_uri', 'include_service_catalog', 'revocation_cache_time',
    'signing_dir', 'token_cache_time',
)


def main():
    arguments = parse_arguments()
    logging.basicConfig(level=arguments.log_level.upper(), filename=arguments.log,
                        format='%(asctime)s %(levelname)s %(name)s %(message)s')
    compat.restore_openssl_words()

    application = auth_token.filter_factory({}, **options(arguments))(wsgi.echo)
    wsgi.serve(application, arguments.port, arguments.until_eof)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in OPTIONS:
        parser.add_argument('--' + name.replace('_', '-'), metavar='VALUE', help='as in [keystone_authtoken]')
    parser.add_argument('--option', action='append', default=[], metavar='NAME=VALUE',
                        help='any other option of auth_token; can be repeated')
    parser.add_argument('--port', type=int, default=0, help='default: a free one')
    parser.add_argument('--log', metavar='FILE', help='default: stderr')
    parser.add_argument('--log-level', default='critical', choices=['debug', 'info', 'warning', 'error', 'critical'])
    parser.add_argument('--until-eof', action='store_true', help='end when stdin does')
    parser.add_argument('--version', action='store_true', help='tell what would run, and end')
    arguments = parser.parse_args()
    if arguments.version:
        from importlib.metadata import version
        print(*(f'{name} {version(name)}' for name in ('keystonemiddleware', 'python-keystoneclient')), sep='\n')
        sys.exit(0)
    return arguments


def options(arguments):
    given = {name: getattr(arguments, name) for name in OPTIONS}
    given.update(pair.split('=', 1) for pair in arguments.option)
    return {name: value for name, value in given.items() if value is not None}


if __name__ == '__main__':
    main()
