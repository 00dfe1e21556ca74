//! How many instructions the parts of a token's way take, counted by callgrind.
//!
//! Unlike times these do not depend on what else the machine does, so a few per cent more are
//! noticed. They do depend on the code that OpenSSL and glibc choose for a processor: valgrind shows
//! them one of its own, which has AVX2 where the machine's has. The file with the counts says in its
//! first line by which tools they were made.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use keystone_testbed::nginx;
use keystone_testbed::pki::Pki;
use keystone_testbed::temp::TempDir;

use crate::counts::{self, Count, Counts, MOST_RISE};
use crate::micro::{Parts, COUNTED};
use crate::{requests, tokens, Failure};

/// Counts all parts and compares them with those of the file, if the same tools have made both.
pub fn compare(file: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(file)?;
    let (made_by, counts) = text.split_once('\n').ok_or("an empty file")?;
    let (before, now) = (counts::parse(counts)?, count_all()?);
    counts::print(&now, &before);
    let tools = tools()?;
    if made_by != tools {
        println!("\nNot compared: these counts are of {tools}, those before of {made_by}.");
        return Ok(());
    }
    match counts::risen(&now, &before).count() {
        0 => Ok(()),
        risen => {
            Err(format!("{risen} parts take over {MOST_RISE} % more than {}", file.display())
                .into())
        }
    }
}

/// Counts all parts and writes the file.
pub fn write(file: &Path) -> Result<(), Failure> {
    let now = count_all()?;
    counts::print(&now, &Counts::new());
    Ok(fs::write(file, tools()? + "\n" + &counts::to_text(&now))?)
}

/// What the counts depend on, besides the code.
fn tools() -> Result<String, Failure> {
    let rustc = Command::new("rustc").arg("--version").output()?;
    let rustc = String::from_utf8(rustc.stdout)?;
    let nginx = Command::new(nginx::binary()).arg("-v").output()?;
    let nginx = String::from_utf8(nginx.stderr)?;
    let nginx = nginx.trim().trim_start_matches("nginx version: ");
    Ok(format!("{}, {}, {nginx}", rustc.trim(), openssl::version::version()))
}

/// Does the part of this number, for callgrind to count.
pub fn counted(dir: &Path, part: &str) -> Result<(), Failure> {
    let (pki, tokens) = prepare(dir)?;
    Parts::new(&pki, &tokens)?.count(part.parse()?);
    Ok(())
}

/// Keys and tokens, made only once, for valgrind is slow.
fn prepare(dir: &Path) -> Result<(Pki, Vec<String>), Failure> {
    let pki = Pki::open(&dir.join("pki"))?;
    let file = dir.join("tokens");
    if !file.exists() {
        fs::write(&file, tokens::sign(&pki.signing, 2 * COUNTED, 3600)?.join("\n"))?;
    }
    let tokens = fs::read_to_string(file)?.lines().map(str::to_owned).collect();
    Ok((pki, tokens))
}

fn count_all() -> Result<Counts, Failure> {
    let dir = TempDir::new("instructions")?;
    let (pki, tokens) = prepare(dir.path())?;
    let names = Parts::new(&pki, &tokens)?.names();
    let mut counts = Counts::new();
    for (index, name) in names.into_iter().enumerate() {
        counts.push((name.to_owned(), count(dir.path(), index)?));
    }
    counts.extend(requests::count()?);
    counts.extend(requests::count_start()?);
    Ok(counts)
}

fn count(dir: &Path, part: usize) -> Result<Count, Failure> {
    let out = dir.join("callgrind");
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["-q", "--tool=callgrind", "--toggle-collect=keystone_bench::micro::counted*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe()?)
        .arg("counted")
        .arg(dir)
        .arg(part.to_string())
        .stdout(Stdio::null());
    if !valgrind.status().map_err(|error| format!("valgrind: {error}"))?.success() {
        return Err("valgrind could not count".into());
    }
    let count = Count::read(&fs::read_to_string(out)?, COUNTED);
    match count.is_empty() {
        true => Err("valgrind has counted nothing".into()),
        false => Ok(count),
    }
}
