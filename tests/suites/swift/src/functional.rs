//! Runs jobs on a number of stacks at the same time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread;

use keystone_testbed::sample::auto;

use crate::stack::{Front, Stack};
use crate::worker::{End, Job, Outcome, Suite, Worker};
use crate::Error;

/// Runs every job on one of a number of stacks, which share nothing. If it is `verbose`, each
/// outcome is told when its class has ended, and else how many of the class have passed.
pub fn run(
    front: Front,
    mut jobs: Vec<Job>,
    is_verbose: bool,
) -> Result<Vec<(Suite, Outcome)>, Error> {
    // The last to be taken is the largest of those left.
    jobs.sort_by_key(|job| job.tests.len());
    let stacks = auto().min(jobs.len());
    let (jobs, outcomes) = (Mutex::new(jobs), Mutex::new(Vec::new()));
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = || -> Result<(), Error> {
        let stack = Stack::start(front)?;
        let mut workers = BTreeMap::new();
        while let Some(job) = next() {
            let worker = match workers.remove(&job.suite) {
                Some(worker) => worker,
                None => Worker::start(job.suite, &stack)?,
            };
            let worker = workers.entry(job.suite).or_insert(worker);
            let done = worker.run(&job)?;
            match is_verbose {
                true => done.iter().for_each(tell),
                false => tell_class(&job, &done),
            }
            let done = done.into_iter().map(|outcome| (job.suite, outcome));
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).extend(done);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..stacks).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    Ok(outcomes.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn tell_class(job: &Job, outcomes: &[Outcome]) {
    let passed = outcomes.iter().filter(|outcome| outcome.end == End::Passed).count();
    println!("{}: {passed} of {} pass", job.class, job.tests.len());
}

fn tell(outcome: &Outcome) {
    let word = match outcome.end {
        End::Failed => "FAILED ",
        End::Passed => "passed ",
        End::Skipped => "skipped",
    };
    println!("{word} {} {}", outcome.test, outcome.detail.lines().next().unwrap_or_default());
}
