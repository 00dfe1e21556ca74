"""The oracle: a filter of keystonemiddleware 13 in front of an echo.

The first line on stdout is `PORT n`; from then on 127.0.0.1:n answers, as
tests/oracle/README.md tells, until stdin ends. A request's own header
X-Test-Options holds options of auth_token as a JSON object, which are added to
those of the command line: there is a filter, with a cache of its own, for all
requests with the same options. One more, `filter`, names another filter than
auth_token: oauth2_token or oauth2_mtls_token.
"""

import argparse
import json
import logging
import pathlib
import ssl
import sys
import threading
import warnings

warnings.simplefilter('ignore')  # eventlet says that it is old
sys.path.append(str(pathlib.Path(__file__).resolve().parent.with_name('oracle')))

from keystonemiddleware import auth_token, oauth2_mtls_token, oauth2_token

import wsgi


FILTERS = {
    'auth_token': auth_token,
    'oauth2_mtls_token': oauth2_mtls_token,
    'oauth2_token': oauth2_token,
}


class Filters:
    def __init__(self, options):
        self.options = options
        self.made = {}
        self.lock = threading.Lock()

    def __call__(self, environ, start_response):
        wanted = environ.pop('HTTP_X_TEST_OPTIONS', '{}')
        with self.lock:
            if wanted not in self.made:
                options = {**self.options, **json.loads(wanted)}
                kind = FILTERS[options.pop('filter', 'auth_token')]
                self.made[wanted] = kind.filter_factory({}, **options)(wsgi.echo)
        return self.made[wanted](environ, start_response)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--option', action='append', default=[], metavar='NAME=VALUE',
                        help='an option of [keystone_authtoken]; can be repeated')
    parser.add_argument('--tls', nargs=3, metavar=('CERTIFICATE', 'KEY', 'CA'),
                        help='speak TLS, and ask for a certificate of the CA')
    parser.add_argument('--log-level', choices=['debug', 'info', 'warning', 'error', 'critical'], help='default: none')
    arguments = parser.parse_args()
    if arguments.log_level:
        logging.basicConfig(level=arguments.log_level.upper(), format='%(asctime)s %(levelname)s %(name)s %(message)s')
    else:
        logging.disable()
    options = dict(pair.split('=', 1) for pair in arguments.option)
    wsgi.serve(Filters(options), port=0, until_eof=True, tls=arguments.tls and tls(*arguments.tls))


def tls(certificate, key, ca):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


if __name__ == '__main__':
    main()
