//! What a demo is made of: titles, exchanges, and a list of what was wrong.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keystone_testbed::http::Response;
use keystone_testbed::nginx::{self, Nginx};
use keystone_testbed::upstream::Seen;

use super::Failure;

/// A story that is being told.
pub(super) struct Story {
    wrong: Vec<String>,
}

impl Story {
    /// Begins one, if there is a module to tell of.
    pub(super) fn begin() -> Result<Self, Failure> {
        catch_interrupt();
        let module = nginx::module();
        if !module.exists() {
            return Err(format!("there is no {}: run `make` first", module.display()).into());
        }
        Ok(Self { wrong: Vec::new() })
    }

    /// Prints the title of a step.
    pub(super) fn title(&self, text: &str) -> Result<(), Failure> {
        println!("\n* {text}");
        stop_if_interrupted()
    }

    /// Notes it as wrong if the value of a header is another one.
    pub(super) fn expect(&mut self, name: &str, value: Option<&str>, wanted: Option<&str>) {
        self.check(value == wanted, &format!("{name} is {value:?} instead of {wanted:?}"));
    }

    /// Notes it as wrong if the status is another one.
    pub(super) fn expect_status(&mut self, answer: &Response, wanted: u16) {
        let status = answer.status;
        self.check(status == wanted, &format!("the status is {status} instead of {wanted}"));
    }

    /// Notes the complaint if something is not right.
    pub(super) fn check(&mut self, right: bool, complaint: &str) {
        if !right {
            println!("  WRONG: {complaint}");
            self.wrong.push(complaint.to_owned());
        }
    }

    /// Says how it went; `false` when something was wrong.
    pub(super) fn end(&self, nginx: &Nginx) -> bool {
        if self.wrong.is_empty() {
            println!("\nEvery answer was right.");
            return true;
        }
        println!("\nWRONG:");
        for wrong in &self.wrong {
            println!("  - {wrong}");
        }
        let log = nginx.error_log();
        let lines: Vec<_> = log.lines().collect();
        println!("\nThe end of nginx's error log:");
        for line in &lines[lines.len().saturating_sub(20)..] {
            println!("  {line}");
        }
        false
    }
}

/// Prints the part of nginx's configuration that is about something.
pub(super) fn show_configuration(nginx: &Nginx) -> Result<(), Failure> {
    println!("nginx listens on http://{} with this configuration:\n", nginx.address());
    let shown = std::fs::read_to_string(nginx.dir().join("nginx.conf"))?;
    let from_http = shown.lines().skip_while(|line| !line.starts_with("http {"));
    from_http.filter(|line| !line.contains("_temp_path")).for_each(|line| println!("    {line}"));
    Ok(())
}

/// Prints a request and its answer.
pub(super) fn show(request: &str, answer: &Response) {
    println!("  > {request}");
    println!("  < {}", answer.status);
    let shown = ["WWW-Authenticate", "Content-Type", "Retry-After", "X-Cache-Status", "X-Worker"];
    for name in shown {
        if let Some(value) = answer.header(name) {
            println!("  < {name}: {value}");
        }
    }
    match Seen::of(answer) {
        Ok(seen) => {
            println!("    the upstream was sent:");
            for (name, value) in &seen.headers {
                let name_lower = name.to_ascii_lowercase();
                let wanted = name_lower.starts_with("x-") || name_lower.starts_with("openstack-");
                if wanted && !name_lower.ends_with("-token") {
                    println!("      {name}: {value}");
                }
            }
        }
        Err(_) if answer.body.is_empty() => {}
        Err(_) => {
            let text = answer.text();
            let shown: String = text.trim_end().chars().take(LONGEST).collect();
            let cut = if shown.len() < text.trim_end().len() { "..." } else { "" };
            println!("  < {shown}{cut}");
        }
    }
}

/// Whether standard output is a terminal, so that a user can try things.
pub(super) fn has_audience() -> bool {
    std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
}

/// Waits for Ctrl-C.
pub(super) fn wait_for_interrupt() {
    while stop_if_interrupted().is_ok() {
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("\nStopping.");
}

fn catch_interrupt() {
    extern "C" fn note(_signal: libc::c_int) {
        INTERRUPTED.store(true, Ordering::SeqCst);
    }
    let handler = note as extern "C" fn(libc::c_int);
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores into an atomic, which a signal handler may do.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// An error once the user has had enough.
pub(super) fn stop_if_interrupted() -> Result<(), Failure> {
    match INTERRUPTED.load(Ordering::SeqCst) {
        true => Err("interrupted".into()),
        false => Ok(()),
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// So many characters of a body are shown.
const LONGEST: usize = 300;
