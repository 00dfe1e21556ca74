"""Runs keystonemiddleware's tests of auth_token with nginx in the place of AuthProtocol.

    python run.py DIRECTORY [-v] [TEST ...]

DIRECTORY is what setup.sh has made for one release. Each test runs with the real filter first: one
that fails there says nothing. TEST is a class, or a class and a method with a dot. README.md tells
the rest.
"""

import argparse
import fnmatch
import pathlib
import re
import signal
import sys
import time
import tomllib
import unittest

HERE = pathlib.Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('directory', type=pathlib.Path)
    parser.add_argument('tests', nargs='*', metavar='TEST')
    parser.add_argument('-v', '--verbose', action='store_true', help='show why the tests of the list differ')
    arguments = parser.parse_intermixed_args()
    # What was started and made is ended and removed then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    release = arguments.directory.resolve().name
    prepare(arguments.directory.resolve(), release)
    suite = Suite(release, arguments.tests)
    report = suite.run(arguments.verbose)
    print(f'keystonemiddleware {release}: {report.line()}', flush=True)
    sys.exit(0 if report.is_good() else 1)


def prepare(directory, release):
    """Makes the release's tests and what they need importable."""
    sys.path[:0] = [str(directory / f'keystonemiddleware-{release}'), str(directory / 'packages'),
                    str(HERE.parents[1] / 'oracle')]
    if release.startswith('4.'):
        import compat
        compat.restore_openssl_words()


class Suite:
    def __init__(self, release, wanted):
        from keystonemiddleware.tests.unit.auth_token import test_auth_token_middleware as module
        from keystonemiddleware.tests.unit import client_fixtures

        # One set of examples for all tests.
        client_fixtures.EXAMPLES_RESOURCE.getResource()
        self.release = release
        self.module = module
        self.tests = {name_of(test): test for test in flatten(unittest.defaultTestLoader.loadTestsFromModule(module))}
        self.list = List(tomllib.loads((HERE / f'{release}.toml').read_text()), self.tests)
        if wanted:
            self.tests = {name: test for name, test in self.tests.items()
                          if name in wanted or name.split('.')[0] in wanted}
            if not self.tests:
                raise SystemExit(f'there is no such test: {" ".join(wanted)}')

    def run(self, verbose):
        report = Report(self.list, verbose)
        real = {name: run(test) for name, test in self.tests.items() if not self.list.leaves_out(name)}
        report.left_out = sum(self.list.leaves_out(name) for name in self.tests)
        world = self.put_nginx_in_place()
        try:
            for name, outcome in real.items():
                if outcome:
                    report.fails_without_nginx(name, outcome)
                else:
                    self.run_with_nginx(name, world, report)
        finally:
            world.end_test()
            world.programs.remove()
        return report

    def run_with_nginx(self, name, world, report):
        start = time.monotonic()
        outcome = run(self.tests[name])
        ended = world.end_test()
        if not outcome and not ended.starts:
            outcome = 'it passes without nginx: it belongs to those that are left out'
        report.add(name, outcome, ended, time.monotonic() - start)

    def put_nginx_in_place(self):
        from keystonemiddleware import auth_token
        from oslo_utils import timeutils
        from requests_mock.contrib import fixture

        import edge

        world = edge.World()
        auth_token.AuthProtocol = edge.edge_class(world, "'" if self.release.startswith('4.') else '"')

        def note_mock(original):
            def set_up(mock):
                original(mock)
                world.identity.mock = mock
            return set_up

        fixture.Fixture.setUp = note_mock(fixture.Fixture.setUp)
        # Where tests move Python's clock, nginx's goes with it.
        clock = getattr(self.module.TimeFixture, 'advance_time_seconds', None)
        if clock:
            self.module.TimeFixture.advance_time_seconds = both(clock, lambda _, seconds: world.advance(seconds))
        else:
            timeutils.advance_time_seconds = both(timeutils.advance_time_seconds, world.advance)
        return world


def both(first, second):
    def call(*arguments):
        first(*arguments)
        second(*arguments)
    return call


class List:
    """What is left out, and what differs: a reason for each."""

    def __init__(self, document, tests):
        self.left_out = self.names(document.get('left_out', []), tests)
        self.differs = self.names(document.get('differs', []), tests)
        twice = self.left_out.keys() & self.differs.keys()
        if twice:
            raise SystemExit(f'twice in the list: {" ".join(sorted(twice))}')

    @staticmethod
    def names(entries, tests):
        found = {}
        for entry in entries:
            for pattern in entry['tests']:
                names = fnmatch.filter(tests, pattern)
                if not names:
                    raise SystemExit(f'the list has {pattern}, which is no test')
                for name in names:
                    if name in found:
                        raise SystemExit(f'the list has {name} twice')
                    found[name] = entry
        return found

    def leaves_out(self, name):
        return name in self.left_out


class Report:
    def __init__(self, expected, verbose):
        self.expected, self.verbose = expected, verbose
        self.left_out = self.passed = self.differ = self.requests = 0
        self.wrong = []

    def add(self, name, outcome, ended, seconds):
        self.requests += ended.requests
        entry = self.expected.differs.get(name)
        if ended.bad:
            self.fail(name, 'nginx says:\n' + '\n'.join(ended.bad))
        elif entry and not outcome:
            self.fail(name, f'it passes, and the list says that it differs: {entry["reason"]}')
        elif entry and not re.search(entry['fails_with'], outcome):
            self.fail(name, f'it does not fail with {entry["fails_with"]!r}, as the list says, but:\n{outcome}')
        elif outcome and not entry:
            self.fail(name, f'{outcome}\nnginx has logged:\n{ended.log}')
        elif entry:
            self.differ += 1
            if self.verbose:
                print(f'differs: {name} ({seconds:.1f} s): {entry["reason"]}\n{outcome}', flush=True)
        else:
            self.passed += 1
            if self.verbose:
                print(f'passes: {name} ({seconds:.1f} s)', flush=True)

    def fails_without_nginx(self, name, outcome):
        self.fail(name, f'it fails with the real AuthProtocol, and has to be left out:\n{outcome}')

    def fail(self, name, why):
        self.wrong.append(name)
        print(f'FAILED: {name}: {why}\n', flush=True)

    def line(self):
        return (f'{self.passed} passed, {self.differ} differ as listed, {len(self.wrong)} failed '
                f'({self.left_out} left out, {self.requests} requests to nginx)')

    def is_good(self):
        return not self.wrong


def run(test):
    """Runs one test: an empty text, or the traceback of how it failed."""
    import testtools

    class Result(testtools.TestResult):
        outcome = ''

        def addError(self, test, err=None, details=None):
            self.outcome += '\n'.join(content.as_text() for name, content in (details or {}).items()
                                      if name.startswith('traceback')) or str(err)
        addFailure = addSkip = addUnexpectedSuccess = addExpectedFailure = addError

    result = Result()
    test.run(result)
    return result.outcome


def name_of(test):
    return f'{type(test).__name__}.{test._testMethodName}'


def flatten(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flatten(test)
        else:
            yield test


if __name__ == '__main__':
    main()
