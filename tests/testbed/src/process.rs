//! Processes that end when their stdin does, so that none outlives the test that started it.

use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::{During, Error, Result};

/// A running process; dropping it ends it.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts one, with a pipe for its stdin.
    pub fn start(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::piped()).spawn();
        Ok(Self(child.during(format!("starting {program}"))?))
    }

    /// What it writes, if its stdout was made a pipe; once.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let deadline = Instant::now() + STOP;
        while self.ended().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Nothing better can be done about a process that will not go.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The memory that a process has for itself, in KiB; shared memory does not count.
pub fn private_memory(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).during(format!("reading {path}"))?;
    let size = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let size = size.and_then(|size| size.trim().strip_suffix("kB")?.trim().parse().ok());
    size.ok_or_else(|| Error::Nginx(format!("{path} has no RssAnon")))
}

/// Processor time, in user space and in the kernel.
#[derive(Clone, Copy, Debug)]
pub struct ProcessorTime {
    /// That of the process itself.
    pub own: Duration,
    /// That of the processes that it has started and waited for.
    pub of_children: Duration,
}

/// The processor time that a process has used, as `/proc/PID/stat` has it: in hundredths of a
/// second. `process` may be `self`.
pub fn processor_time(process: &str) -> Result<ProcessorTime> {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).during(format!("reading {path}"))?;
    // The second field, in brackets, is a name that may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: Vec<u32> = fields.skip(TIMES).map_while(|ticks| ticks.parse().ok()).collect();
    let [user, system, childrens_user, childrens_system, ..] = ticks[..] else {
        return Err(Error::Nginx(format!("{path} has no times")));
    };
    // SAFETY: sysconf touches no memory.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let time = |ticks: u32| Duration::from_secs_f64(f64::from(ticks) / per_second as f64);
    Ok(ProcessorTime {
        own: time(user + system),
        of_children: time(childrens_user + childrens_system),
    })
}

/// How many descriptors a process has open.
pub fn descriptors(pid: i32) -> Result<usize> {
    let path = format!("/proc/{pid}/fd");
    Ok(std::fs::read_dir(&path).during(format!("reading {path}"))?.count())
}

/// Has `last` called when this process exits, as statics are never dropped.
pub fn at_exit(last: extern "C" fn()) {
    // SAFETY: `last` is a function of the C ABI that lives as long as the program.
    unsafe { libc::atexit(last) };
}

const STOP: Duration = Duration::from_secs(5);
/// How many fields of `/proc/PID/stat` come after the name and before the times.
const TIMES: usize = 11;
