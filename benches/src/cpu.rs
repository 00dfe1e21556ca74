//! Processors and processor time.

use std::fs;
use std::process::Command;
use std::time::Duration;

use keystone_testbed::process::processor_time;

use crate::Failure;

/// Which processor does what, so that the client does not take the worker's time.
#[derive(Debug)]
pub struct Pins {
    /// How many processors this process may use.
    pub count: usize,
    /// The worker's; `None` where there is but one for all.
    pub worker: Option<usize>,
    /// That of the client and of what is behind the worker.
    pub client: Option<usize>,
}

impl Pins {
    /// The first processor for the worker, the last one for the rest: where two of them share a
    /// core, their numbers are next to each other, or there are only these two.
    pub fn choose() -> Result<Self, Failure> {
        let status = fs::read_to_string("/proc/self/status")?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let cpus =
            parse_list(list.unwrap_or_default().trim()).ok_or("an odd list of processors")?;
        Ok(match cpus[..] {
            [first, .., last] => {
                Self { count: cpus.len(), worker: Some(first), client: Some(last) }
            }
            _ => Self { count: cpus.len(), worker: None, client: None },
        })
    }

    /// nginx's directive for a worker on this processor.
    pub fn affinity(cpu: Option<usize>) -> String {
        cpu.map_or_else(String::new, |cpu| format!("worker_cpu_affinity 1{:0>cpu$};", ""))
    }

    /// nginx's directive for two workers, each on a processor of its own.
    pub fn affinities(&self) -> String {
        let mask = |cpu: usize| format!("1{:0>cpu$}", "");
        let both = self.worker.zip(self.client);
        both.map_or_else(String::new, |(one, other)| {
            format!("worker_cpu_affinity {} {};", mask(one), mask(other))
        })
    }

    /// A command that will run on this processor.
    pub fn command(cpu: Option<usize>, program: &str) -> Command {
        match cpu {
            None => Command::new(program),
            Some(cpu) => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", &cpu.to_string(), program]);
                command
            }
        }
    }
}

/// `0-2,5` as 0, 1, 2, 5.
fn parse_list(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// The processor time that a process has used, in user space and in the kernel.
pub fn used_by(pid: i32) -> Result<Duration, Failure> {
    // The same as the sum of utime and stime in `/proc/PID/stat`, but not in hundredths of a
    // second. Not every kernel has it.
    let schedstat = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let nanoseconds = schedstat.split_whitespace().next().and_then(|first| first.parse().ok());
    match nanoseconds {
        Some(nanoseconds @ 1..) => Ok(Duration::from_nanos(nanoseconds)),
        _ => Ok(processor_time(&pid.to_string())?.own),
    }
}

/// The sum of [`used_by`] of several processes.
pub fn used_by_all(pids: &[i32]) -> Result<Duration, Failure> {
    pids.iter().map(|pid| used_by(*pid)).sum()
}

/// The processor time of a process and of all that it has started and waited for.
pub fn used_with_children(pid: i32) -> Result<Duration, Failure> {
    let time = processor_time(&pid.to_string())?;
    Ok(time.own + time.of_children)
}

/// The processes that a process has started.
pub fn children(parent: i32) -> Result<Vec<i32>, Failure> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // A process may have ended since.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if after_name.split_whitespace().nth(PARENT) == Some(parent.to_string().as_str()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// The processor time of all processes that this one has started and waited for.
pub fn used_by_children() -> Result<Duration, Failure> {
    Ok(processor_time("self")?.of_children)
}

/// The load average of the last minute.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// Where the parent is in `/proc/PID/stat`, counted from the first field after the name.
const PARENT: usize = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        assert_eq!(parse_list("0-2,5").unwrap(), [0, 1, 2, 5]);
        assert_eq!(parse_list("7").unwrap(), [7]);
        assert_eq!(parse_list(""), None);
    }

    #[test]
    fn masks() {
        assert_eq!(Pins::affinity(Some(0)), "worker_cpu_affinity 1;");
        assert_eq!(Pins::affinity(Some(3)), "worker_cpu_affinity 1000;");
        assert_eq!(Pins::affinity(None), "");
    }
}
