//! curl, as a reader of a demo would use it.

use std::io::BufReader;
use std::process::Command;

use keystone_testbed::http::Response;
use keystone_testbed::wire;

use super::story::show;
use super::Failure;

/// Shows and runs curl; in its words, names of tokens stand for the tokens.
pub(super) fn curl(words: &[&str], tokens: &[(&str, &str)]) -> Result<Response, Failure> {
    let answer = run_curl(words, tokens)?;
    show(&in_words(words), &answer);
    Ok(answer)
}

/// Runs it without a word.
pub(super) fn run_curl(words: &[&str], tokens: &[(&str, &str)]) -> Result<Response, Failure> {
    let meant = |word: &&str| {
        tokens.iter().fold((*word).to_owned(), |word, (name, token)| word.replace(name, token))
    };
    let output = Command::new("curl").args(["-s", "-i"]).args(words.iter().map(meant)).output();
    let output = output.map_err(|error| format!("curl does not start: {error}"))?;
    let mut reader = BufReader::new(output.stdout.as_slice());
    let head = wire::read_head(&mut reader)?;
    let head = head.ok_or_else(|| format!("curl got no answer: {}", output.status))?;
    let status = head.start.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("a status line: {:?}", head.start))?;
    // curl has undone the chunks.
    let mut body = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut body)?;
    Ok(Response { status, headers: head.headers, body })
}

/// The command as it is typed.
pub(super) fn in_words(words: &[&str]) -> String {
    let quoted = words.iter().map(|word| match word {
        word if word.contains('"') => format!("'{word}'"),
        word if word.contains([' ', '$']) => format!("\"{word}\""),
        word => (*word).to_owned(),
    });
    format!("curl -i {}", quoted.collect::<Vec<_>>().join(" "))
}
