"""An nginx with the module: its configuration, its processes and what it logs."""

import http.client
import json
import mmap
import os
import pathlib
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
START_TIMEOUT = 20
ANSWER_TIMEOUT = 60

# What $keystone_... says of each request, for auth_token's log lines and for what auth_token
# writes into the environ of a request that it refuses.
LOGGED = ('identity_status', 'auth_result', 'cache_status', 'user_id', 'project_id', 'roles',
          'service_user_id', 'service_project_id', 'service_roles')


class Failed(Exception):
    """nginx did what it never should: it died, or logged an alert."""


class Programs:
    """What all nginx processes of a run need, made once."""

    def __init__(self):
        self.binary = os.environ.get('NGINX_BINARY', '/usr/sbin/nginx')
        self.module = needed('KEYSTONE_MODULE')
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix='ksm-edge-'))
        self.preload = self.compile('preload.so', HERE / 'preload.c', '-O1')
        self.negotiate = self.compile('negotiate.so', HERE.parents[1] / 'testbed/src/negotiate.c', *headers())

    def compile(self, name, source, *flags):
        library = self.directory / name
        subprocess.run(['cc', '-shared', '-fPIC', *flags, '-o', library, source], check=True)
        return library

    def remove(self):
        shutil.rmtree(self.directory)


def needed(variable):
    value = os.environ.get(variable)
    if not value:
        raise SystemExit(f'{variable} is not set')
    return value


def headers():
    """Where nginx's headers are, for the stand-in of a module that authenticates by Negotiate."""
    sources = pathlib.Path(os.environ.get('NGINX_SOURCE_DIR', '/usr/share/nginx/src')) / 'src'
    folders = ['core', 'event', 'event/modules', 'os/unix', 'http', 'http/modules', 'http/v2', 'http/v3']
    return [f'-I{sources / folder}' for folder in folders] + ['-I' + needed('NGINX_BUILD_DIR')]


class Nginx:
    """One master and one worker behind a socket in a directory of its own."""

    def __init__(self, programs, directives, upstream_port, name):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix='n', dir=programs.directory))
        self.socket = self.directory / 'http.sock'
        self.programs = programs
        self.read = {'access.log': 0, 'error.log': 0}
        text = configuration(programs, directives, upstream_port, name).replace('@DIR@', str(self.directory))
        (self.directory / 'nginx.conf').write_text(text)
        self.clock, self.lock = self.make_clock(), threading.Lock()
        self.process = self.start()

    def make_clock(self):
        path = self.directory / 'clock'
        path.write_bytes(struct.pack('q', 0))
        with open(path, 'r+b') as file:
            return mmap.mmap(file.fileno(), 8)

    def start(self):
        stderr = open(self.directory / 'stderr', 'wb')
        process = subprocess.Popen(
            [self.programs.binary, '-p', self.directory, '-c', self.directory / 'nginx.conf',
             '-e', self.directory / 'error.log'],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
            env={**os.environ, 'LD_PRELOAD': str(self.programs.preload), 'EDGE_CLOCK': str(self.directory / 'clock')})
        stderr.close()
        until = time.monotonic() + START_TIMEOUT
        while not self.is_listening():
            if process.poll() is not None:
                raise Failed('nginx does not start:\n' + (self.directory / 'stderr').read_text())
            if time.monotonic() > until:
                process.kill()
                raise Failed('nginx does not listen')
            pause()
        return process

    def is_listening(self):
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(self.socket))
        except OSError:
            return False
        return True

    def advance(self, seconds):
        """Moves the clock of this nginx."""
        with self.lock:
            if not self.clock.closed:
                passed, = struct.unpack('q', self.clock[:])
                self.clock[:] = struct.pack('q', passed + seconds)

    def send(self, method, target, headers):
        """The answer, and what the access log says of the request."""
        connection = Connection(str(self.socket))
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            answer = response.status, response.reason, response.getheaders(), response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f'no answer from nginx: {error}\n' + '\n'.join(self.new_lines('error.log'))) from error
        finally:
            connection.close()
        return answer, self.access()

    def access(self):
        """The newest line of the access log, which is written when the connection is closed."""
        until = time.monotonic() + START_TIMEOUT
        while not (lines := self.new_lines('access.log')):
            if time.monotonic() > until:
                raise Failed('nothing in the access log')
            pause()
        return {name: None if value in ('', '-') else value for name, value in json.loads(lines[-1]).items()}

    def new_lines(self, name):
        with open(self.directory / name, errors='replace') as file:
            file.seek(self.read[name])
            text = file.read()
            whole = text.rfind('\n') + 1
            self.read[name] += len(text[:whole].encode())
        return text[:whole].splitlines()

    def stop(self):
        """Ends it, and says what should not have happened, and all it has logged; its files go."""
        early = self.process.poll()
        if early is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(START_TIMEOUT)
        with self.lock:
            self.clock.close()
        log = (self.directory / 'error.log').read_text(errors='replace')
        shutil.rmtree(self.directory)
        bad = [line for line in log.splitlines() if any(f' [{level}] ' in line for level in ('emerg', 'alert', 'crit'))]
        if early is not None:
            bad.insert(0, f'nginx ended with {early}')
        return bad, log


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix-domain socket."""

    def __init__(self, path):
        super().__init__('localhost', timeout=ANSWER_TIMEOUT)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def pause():
    # Tests replace time.sleep() and count its calls.
    threading.Event().wait(0.002)


def configuration(programs, directives, upstream_port, name):
    user = f'user {pwd.getpwuid(os.getuid()).pw_name};' if os.getuid() == 0 else ''
    logged = ','.join(f'"{word}":"$keystone_{word}"' for word in LOGGED)
    keystone = '\n'.join(f'{directive} {value};' for directive, value in directives)
    return f'''{user}
load_module {programs.module};
load_module {programs.negotiate};
worker_processes 1;
daemon off;
pid @DIR@/nginx.pid;
error_log @DIR@/error.log info;
events {{ worker_connections 128; }}
http {{
client_body_temp_path @DIR@/client_body;
proxy_temp_path @DIR@/proxy;
fastcgi_temp_path @DIR@/fastcgi;
uwsgi_temp_path @DIR@/uwsgi;
scgi_temp_path @DIR@/scgi;
log_format edge escape=json '{{{logged}}}';
access_log @DIR@/access.log edge;
keepalive_timeout 0;
large_client_header_buffers 4 64k;
proxy_buffer_size 128k;
proxy_buffers 4 128k;
proxy_busy_buffers_size 256k;
keystone_cache_zone zone=keystone:1m;
server {{
listen unix:@DIR@/http.sock;
{keystone}
location / {{
proxy_set_header X-Edge {name};
proxy_pass http://127.0.0.1:{upstream_port};
}}
}}
}}
'''
