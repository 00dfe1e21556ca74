"""The tokens, certificates and keys in the sdist's examples/pki."""

import hashlib
import pathlib
import subprocess

from keystonemiddleware.tests.unit import client_fixtures

import identity


def hashes(token):
    """The ids by which a revocation list may name the token."""
    return [hashlib.new(algorithm, token.encode()).hexdigest() for algorithm in ('md5', 'sha256')]


def current():
    """The examples that the tests have got."""
    return client_fixtures.EXAMPLES_RESOURCE._currentResource


def tokens():
    return [value for value in vars(current()).values()
            if isinstance(value, str) and value.startswith(('MII', 'PKIZ_'))]


def signed_token():
    return current().SIGNED_TOKEN_SCOPED


def certificate(question):
    """The answer to a question for a certificate."""
    certificates = pathlib.Path(client_fixtures.CERTDIR)
    for pattern, name in ((identity.SIGNING_CERTIFICATE, 'signing_cert.pem'), (identity.CA_CERTIFICATE, 'cacert.pem')):
        if question.is_for(pattern):
            return 200, {}, (certificates / name).read_bytes()
    return None


def sign(content, cache={}):
    """The list as Keystone would have signed it."""
    if content not in cache:
        certificates, keys = pathlib.Path(client_fixtures.CERTDIR), pathlib.Path(client_fixtures.KEYDIR)
        cache[content] = openssl(content.encode(), 'cms', '-sign', '-signer', certificates / 'signing_cert.pem',
                                 '-inkey', keys / 'signing_key.pem', '-outform', 'PEM', '-nosmimecap', '-nodetach',
                                 '-nocerts', '-noattr', '-md', 'sha256', '-binary').decode()
    return cache[content]


def verified(signed):
    """What was signed."""
    certificates = pathlib.Path(client_fixtures.CERTDIR)
    return openssl(signed.encode(), 'cms', '-verify', '-certfile', certificates / 'signing_cert.pem',
                   '-CAfile', certificates / 'cacert.pem', '-inform', 'PEM', '-nosmimecap', '-nodetach',
                   '-nocerts', '-noattr', '-purpose', 'any').decode()


def openssl(given, *arguments):
    return subprocess.run(['openssl', *arguments], input=given, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=True).stdout
