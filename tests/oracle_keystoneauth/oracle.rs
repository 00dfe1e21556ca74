//! Swift's keystoneauth in its Python process.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use keystone_testbed::keystone::python;
use serde_json::Value;

/// What the oracle said to a number of questions.
pub struct Answers {
    /// Whether its Python is one of those that look closely at a referer with brackets in it.
    pub is_strict: bool,
    /// An answer to each question.
    pub answers: Vec<Value>,
}

/// Asks tests/swift/keystoneauth.py, which says what questions there are.
pub fn ask(questions: &[Value]) -> Answers {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/swift/keystoneauth.py");
    let mut oracle = Command::new(python().expect("a Python with Swift in it"))
        .arg(script)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the oracle starts");
    let mut stdin = oracle.stdin.take().expect("a pipe");
    let stdout = BufReader::new(oracle.stdout.take().expect("a pipe"));
    let mut answers = thread::scope(|scope| {
        scope.spawn(move || {
            for question in questions {
                writeln!(stdin, "{question}").expect("the oracle listens");
            }
        });
        let lines = stdout.lines().map(|line| line.expect("the oracle speaks"));
        let json = |line: String| serde_json::from_str(&line).expect("the oracle speaks JSON");
        lines.map(json).collect::<Vec<Value>>()
    });
    let status = oracle.wait().expect("the oracle ends");
    assert!(status.success(), "the oracle ended with {status}: is Swift in its environment?");
    assert_eq!(answers.len(), questions.len() + 1, "an answer to each question, and a line before");
    let is_strict = answers.remove(0)["is_strict"] == true;
    Answers { is_strict, answers }
}

/// Bytes as WSGI has them: characters of Latin-1.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
