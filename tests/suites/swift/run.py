"""Runs functional tests of Swift or of python-swiftclient: run.py SOURCE [--list].

SOURCE is the folder of an unpacked sdist. With --list every test is named, one a
line. Otherwise classes are read from stdin, a JSON object a line,

    {"class": "test_account.TestAccount", "tests": ["test_GET", ...]}

and each test is answered with one as soon as it has ended,

    {"test": "test_account.TestAccount.test_GET", "outcome": "passed", "detail": ""}

and each class with {"class": ...}. An outcome is "passed", "failed" or
"skipped"; the detail is the exception or the reason. SWIFT_TEST_CONFIG_FILE names
the configuration of the tests. What they print goes to stderr.
"""

import importlib
import json
import os
import pathlib
import random
import signal
import sys
import unittest
import warnings

warnings.simplefilter('ignore')  # eventlet says that it is old

PACKAGE = 'test.functional.'

# Need the command line of OpenStack, or its SDK, and do the same as the others through them.
OTHER_CLIENTS = ['test_openstackclient', 'test_openstacksdk']

# No test takes so long unless it hangs.
TIMEOUT = 900


def main():
    source = pathlib.Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(source))
    # Results have stdout for themselves.
    results = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1)
    if '--list' in sys.argv:
        files = sorted(source.joinpath('test', 'functional').glob('test*.py'))
        for case in (case for file in files for case in cases_of(file.stem)):
            print(name_of(case), file=results)
        return
    random.seed(1)
    signal.signal(signal.SIGALRM, hung)
    for line in sys.stdin:
        wanted = json.loads(line)
        module, _, name = wanted['class'].rpartition('.')
        suite = unittest.TestSuite(case for case in cases_of(module) if type(case).__name__ == name
                                   and case._testMethodName in wanted['tests'])
        suite.run(Result(results))
        print(json.dumps({'class': wanted['class']}), file=results)


def cases_of(module):
    """The tests of the classes that the module itself defines."""
    if module in OTHER_CLIENTS:
        return
    module = importlib.import_module(PACKAGE + module)
    for suite in unittest.defaultTestLoader.loadTestsFromModule(module):
        for case in suite:
            if type(case).__module__ == module.__name__:
                yield case


def name_of(case):
    return case.id().removeprefix(PACKAGE)


def hung(signal_number, frame):
    raise TimeoutError(f'no end after {TIMEOUT} seconds')


class Result(unittest.TestResult):
    """Says what became of a test when it has ended."""

    def __init__(self, results):
        super().__init__()
        self.results = results
        self.outcome = None

    def startTest(self, test):
        super().startTest(test)
        self.outcome = ('passed', '')
        signal.alarm(TIMEOUT)

    def stopTest(self, test):
        signal.alarm(0)
        super().stopTest(test)
        self.tell(name_of(test), *self.outcome)

    def addError(self, test, error):
        super().addError(test, error)
        self.fail(test, error)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.fail(test, error)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error:
            self.fail(test, error)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        if isinstance(test, unittest.TestCase):
            self.outcome = ('skipped', reason)
        else:
            self.tell(test.id(), 'skipped', reason)

    def addExpectedFailure(self, test, error):
        super().addExpectedFailure(test, error)
        self.outcome = ('skipped', 'is expected to fail')

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.outcome = ('failed', 'is expected to fail, and does not')

    def fail(self, test, error):
        kind, value, trace = error
        while trace.tb_next:
            trace = trace.tb_next
        where = f'{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}'
        detail = f'{where}: {kind.__name__}: {value}'[:2000]
        if isinstance(test, unittest.TestCase):
            self.outcome = ('failed', detail)
        else:
            # The setup of a class or a module.
            self.tell(test.id(), 'failed', detail)

    def tell(self, name, outcome, detail):
        print(json.dumps({'test': name, 'outcome': outcome, 'detail': detail}), file=self.results)


if __name__ == '__main__':
    main()
