"""The list is asserted both ways: what run.py makes of each outcome."""

import contextlib
import io
import types
import unittest

from run import List, Report

TESTS = ['A.passes', 'A.differs', 'B.left_out']
DOCUMENT = {
    'left_out': [{'tests': ['B.*'], 'reason': 'no request'}],
    'differs': [{'tests': ['A.differs'], 'reason': 'on purpose', 'fails_with': '200 != 503'}],
}


class TestReport(unittest.TestCase):
    def report(self, name, outcome, bad=()):
        report = Report(List(DOCUMENT, TESTS), verbose=False)
        ended = types.SimpleNamespace(bad=list(bad), requests=1, log='')
        with contextlib.redirect_stdout(io.StringIO()) as said:
            report.add(name, outcome, ended, 0)
        return report.passed, report.differ, len(report.wrong), report.is_good(), said.getvalue()

    def test_what_passes_and_what_differs_as_listed_is_good(self):
        self.assertEqual(self.report('A.passes', ''), (1, 0, 0, True, ''))
        self.assertEqual(self.report('A.differs', 'Mismatch: 200 != 503'), (0, 1, 0, True, ''))

    def test_a_failure_that_is_not_listed_fails(self):
        self.assertEqual(self.report('A.passes', '200 != 503')[:4], (0, 0, 1, False))

    def test_a_listed_test_that_passes_fails(self):
        *outcome, said = self.report('A.differs', '')
        self.assertEqual(outcome, [0, 0, 1, False])
        self.assertIn('on purpose', said)

    def test_a_listed_test_that_fails_in_another_way_fails(self):
        self.assertEqual(self.report('A.differs', '200 != 401')[:4], (0, 0, 1, False))

    def test_what_nginx_should_not_say_fails_whatever_the_outcome(self):
        for name, outcome in (('A.passes', ''), ('A.differs', '200 != 503')):
            self.assertEqual(self.report(name, outcome, ['[alert] worker exited on signal 11'])[:4], (0, 0, 1, False))

    def test_names_that_fit_no_test_or_stand_twice_are_refused(self):
        entry = {'tests': ['A.passes'], 'reason': '', 'fails_with': ''}
        for document in ({'differs': [{**entry, 'tests': ['C.*']}]}, {'differs': [entry, entry]},
                         {'differs': [entry], 'left_out': [entry]}):
            with self.assertRaises(SystemExit):
                List(document, TESTS)


if __name__ == '__main__':
    unittest.main()
