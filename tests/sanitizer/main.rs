//! What AddressSanitizer reports of the nginx that `make test-asan` builds: the memory errors of
//! `planted_faults.rs`, and none where there is none. See tests/sanitizer/README.md.

use std::fs;
use std::path::{Path, PathBuf};

use keystone_testbed::http::Request;
use keystone_testbed::nginx::{module, was_built_with, Config, Nginx};
use keystone_testbed::wait_for;

#[test]
fn a_read_past_a_pool_allocation_is_reported() {
    let Some(report) = crash("read_past_end") else { return };
    assert!(report.contains("heap-buffer-overflow"), "{report}");
    assert!(report.contains("in read_past_end "), "{report}");
}

#[test]
fn a_read_past_a_pool_allocation_in_nginx_is_reported() {
    let Some(report) = crash("read_past_end_in_nginx") else { return };
    assert!(report.contains("heap-buffer-overflow"), "{report}");
    assert!(report.contains("in ngx_hash_key "), "{report}");
}

#[test]
fn a_read_of_a_freed_pool_is_reported() {
    let Some(report) = crash("read_freed_pool") else { return };
    assert!(report.contains("heap-use-after-free"), "{report}");
    assert!(report.contains("in read_freed_pool "), "{report}");
}

#[test]
fn a_leak_is_reported_when_the_worker_ends() {
    let Some(mut nginx) = start("leak") else { return };
    let worker = nginx.worker_pids()[0];
    for _ in 0..3 {
        assert_eq!(nginx.send(&Request::get("/")).unwrap().status, 204);
    }
    nginx.quit().unwrap();
    let report = report_of(worker);
    assert!(report.contains("LeakSanitizer: detected memory leaks"), "{report}");
    assert!(report.contains("231 byte(s) in 3 object(s)"), "{report}");
    assert!(report.contains("in leak "), "{report}");
}

#[test]
fn nothing_is_reported_of_a_worker_without_a_fault() {
    let Some(mut nginx) = start("leak") else { return };
    let worker = nginx.worker_pids()[0];
    nginx.quit().unwrap();
    assert!(!nginx.error_log().contains("exited on signal"), "{}", nginx.error_log());
    assert!(!path_of_report(worker).exists());
}

/// The report of a worker that dies of a fault.
fn crash(fault: &str) -> Option<String> {
    let nginx = start(fault)?;
    let worker = nginx.worker_pids()[0];
    assert!(nginx.send(&Request::get("/")).is_err(), "{fault}: the worker has answered");
    nginx.wait_for_log(&format!("worker process {worker} exited on signal 6")).unwrap();
    Some(report_of(worker))
}

/// nginx with a planted fault in its one location; `None`, and a word on stderr, where it has no
/// sanitizer.
fn start(fault: &str) -> Option<Nginx> {
    if !was_built_with("-fsanitize=address") {
        return None;
    }
    let planted = module().with_file_name("examples").join("libplanted_faults.so");
    let config = Config::without_module()
        .main(&format!("load_module {};", planted.display()))
        .location("/", &format!("planted_fault {fault};"));
    Some(Nginx::start(&config).unwrap())
}

fn report_of(pid: i32) -> String {
    let path = path_of_report(pid);
    let whole = |text: &String| text.contains("SUMMARY: AddressSanitizer");
    let read = || fs::read_to_string(&path).ok().filter(whole);
    wait_for(&format!("the report {}", path.display()), read).unwrap()
}

/// The sanitizer appends the process id to `log_path`.
fn path_of_report(pid: i32) -> PathBuf {
    let options = std::env::var("ASAN_OPTIONS").expect("ASAN_OPTIONS is not set");
    let path = options.split(':').find_map(|option| option.strip_prefix("log_path="));
    let path = path.expect("ASAN_OPTIONS has no log_path");
    Path::new(&format!("{path}.{pid}")).to_path_buf()
}
