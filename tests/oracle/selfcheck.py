"""Checks the oracle against recorded tokens of a real Keystone.

    VENV/bin/python selfcheck.py VECTORS

VECTORS is a folder with a manifest.json, tokens/, revocation/ and responses/,
as recorded from a Keystone with the pki or the pkiz provider. A stand-in for
that Keystone serves its certificates and its revocation list; every token goes
through the oracle, once with the v2.0 and once with the v3 interface. Ends
with 1 if any answer is not what the manifest says.
"""

import http.server
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
ADMIN_TOKEN = 'selfcheck-admin'
GARBAGE = 'MII' + 'A1b2C3d4E5' * 108 + 'fffff'


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    vectors = pathlib.Path(sys.argv[1])
    manifest = json.loads((vectors / 'manifest.json').read_text())
    failures = sum(check(vectors, manifest, version) for version in ('v2.0', 'v3.0'))
    print('all as recorded' if failures == 0 else f'{failures} answers differ')
    sys.exit(failures != 0)


def check(vectors, manifest, version):
    keystone = Keystone(vectors)
    failures = 0

    def told(name, wanted, answer, detail=''):
        nonlocal failures
        good = wanted == answer
        failures += not good
        print(f'{"ok  " if good else "FAIL"} {version} {manifest["provider"]:<4} {name:<24} {answer} {detail}')

    with tempfile.TemporaryDirectory() as signing_dir, Oracle(keystone, signing_dir, version) as oracle:
        told('no-token', 401, oracle.ask(None)[0])
        for name, token in manifest['tokens'].items():
            payload = json.loads((vectors / token['payload']).read_text())
            status, answer = oracle.ask((vectors / token['file']).read_text().strip())
            seen = (status, header(answer, 'x-user-name') if status == 200 else None)
            told(name, expected(token, payload), seen, token['state'])

        before = len(keystone.asked)
        told('garbage', 401, oracle.ask(GARBAGE)[0])
        told('garbage, questions', 0, len(keystone.asked) - before)
    keystone.server.shutdown()
    print(f'     {version} Keystone was asked for {", ".join(sorted(set(keystone.asked)))}')
    return failures


def expected(token, payload):
    access = payload.get('access')
    unscoped_v2 = access and 'tenant' not in access['token']
    if token['state'] != 'valid' or unscoped_v2:
        return 401, None
    return 200, (access or payload['token'])['user']['name']


def header(answer, name):
    return bytes.fromhex(answer['identity'][name]).decode()


class Keystone:
    """Serves what was recorded; knows no token."""

    def __init__(self, vectors):
        signed = {'signed': (vectors / 'revocation/revoked-many-v2-list.cms.pem').read_text()}
        body_of = lambda name: (vectors / f'responses/{name}.http').read_bytes().split(b'\r\n\r\n', 1)[1]
        certificate, authority = body_of('public-get-v2-cert-signing'), body_of('public-get-v2-cert-ca')
        answers = {
            '/v2.0/certificates/signing': certificate,
            '/v2.0/certificates/ca': authority,
            '/v3/OS-SIMPLE-CERT/certificates': certificate,
            '/v3/OS-SIMPLE-CERT/ca': authority,
            '/v2.0/tokens/revoked': json.dumps(signed).encode(),
            '/v3/auth/tokens/OS-PKI/revoked': json.dumps(signed).encode(),
        }
        asked = self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path.split('?')[0])
                if self.path == '/':
                    return self.answer(300, body_of('public-get-root'))
                if self.path.endswith('revoked') and self.headers['X-Auth-Token'] != ADMIN_TOKEN:
                    return self.answer(401, b'{}')
                body = answers.get(self.path)
                self.answer(404 if body is None else 200, body or b'{}')

            def answer(self, status, body):
                self.send_response(status)
                self.send_header('Content-Type', 'application/json' if body.startswith(b'{') else 'application/x-pem-file')
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.uri = f'http://127.0.0.1:{self.server.server_address[1]}'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Oracle:
    def __init__(self, keystone, signing_dir, version):
        self.process = subprocess.Popen(
            [sys.executable, HERE / 'oracle.py', '--until-eof', '--identity-uri', keystone.uri, '--admin-token',
             ADMIN_TOKEN, '--signing-dir', signing_dir, '--auth-version', version, '--revocation-cache-time', '300'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.uri = 'http://127.0.0.1:' + self.process.stdout.readline().split()[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def ask(self, token):
        request = urllib.request.Request(self.uri, headers={'X-Auth-Token': token} if token else {})
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, None


if __name__ == '__main__':
    main()
