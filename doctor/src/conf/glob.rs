//! Patterns of file names, as `include` takes them: `*`, `?` and `[...]`.

use std::io;
use std::path::{Component, Path, PathBuf};

/// The files that match a pattern, sorted; a path without a pattern matches itself. An error
/// is of a directory that is there and cannot be read.
pub fn expand(pattern: &Path) -> Vec<Result<PathBuf, (PathBuf, io::Error)>> {
    let (mut found, mut has_pattern) = (vec![Ok(PathBuf::new())], false);
    for component in pattern.components() {
        let name = component.as_os_str().to_string_lossy();
        let is_pattern =
            matches!(component, Component::Normal(_)) && name.contains(['*', '?', '[']);
        has_pattern |= is_pattern;
        found = match is_pattern {
            false => found.into_iter().map(|path| Ok(path?.join(component))).collect(),
            true => found.into_iter().flat_map(|directory| matching(directory, &name)).collect(),
        };
    }
    // As for glob(3), what is named behind a pattern may be missing here and there; a link to
    // nowhere is not missing, and nginx stumbles over it.
    found.retain(|path| !has_pattern || !path.as_ref().is_ok_and(|path| is_missing(path)));
    found
}

/// Whether the pattern matches this path.
pub fn matches_path(pattern: &Path, path: &Path) -> bool {
    let bytes = |component: Component<'_>| component.as_os_str().as_encoded_bytes().to_vec();
    let (pattern, path) = (pattern.components().map(bytes), path.components().map(bytes));
    let matches_name = |(pattern, name): (Vec<u8>, Vec<u8>)| {
        pattern == name
            || name.starts_with(b".") == pattern.starts_with(b".") && matches(&pattern, &name)
    };
    pattern.clone().count() == path.clone().count() && pattern.zip(path).all(matches_name)
}

fn is_missing(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| is_of_nothing(&error))
}

fn is_of_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn matching(
    directory: Result<PathBuf, (PathBuf, io::Error)>,
    pattern: &str,
) -> Vec<Result<PathBuf, (PathBuf, io::Error)>> {
    let directory = match directory {
        Ok(directory) if directory == Path::new("") => PathBuf::from("."),
        Ok(directory) => directory,
        error => return vec![error],
    };
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if is_of_nothing(&error) => return Vec::new(),
        Err(error) => return vec![Err((directory, error))],
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with('.') == pattern.starts_with('.')
                && matches(pattern.as_bytes(), name.as_bytes())
        })
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths.into_iter().map(Ok).collect()
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let Some((&first, rest)) = pattern.split_first() else { return name.is_empty() };
    match first {
        b'*' => (0..=name.len()).any(|at| matches(rest, &name[at..])),
        b'?' => !name.is_empty() && matches(rest, &name[1..]),
        b'[' => match (set(rest), name.split_first()) {
            (Some((set, rest)), Some((&byte, name))) => is_in(set, byte) && matches(rest, name),
            (None, Some((b'[', name))) => matches(rest, name),
            _ => false,
        },
        byte => name.first() == Some(&byte) && matches(rest, &name[1..]),
    }
}

/// What is between the brackets, and what is behind them.
fn set(pattern: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = pattern.iter().skip(1).position(|&byte| byte == b']')? + 1;
    Some((&pattern[..end], &pattern[end + 1..]))
}

fn is_in(set: &[u8], byte: u8) -> bool {
    let (negated, mut set) = match set.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        _ => (false, set),
    };
    let mut found = false;
    while let [first, rest @ ..] = set {
        set = match rest {
            [b'-', last, rest @ ..] => {
                found |= (*first..=*last).contains(&byte);
                rest
            }
            rest => {
                found |= *first == byte;
                rest
            }
        };
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{matches, matches_path};

    #[test]
    fn a_path_matches_name_by_name() {
        for (pattern, path, expected) in [
            ("/etc/nginx/*.conf", "/etc/nginx/a.conf", true),
            ("/etc/*/*.conf", "/etc/nginx/a.conf", true),
            ("/etc/*.conf", "/etc/nginx/a.conf", false),
            ("/etc/nginx/*", "/etc/nginx/.hidden", false),
            ("/etc/nginx/./a.conf", "/etc/nginx/a.conf", true),
        ] {
            let matched = matches_path(Path::new(pattern), Path::new(path));
            assert_eq!(matched, expected, "{pattern} {path}");
        }
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("?.conf", "a.conf", true),
            ("[a-c]*", "beta", true),
            ("[!a-c]*", "beta", false),
            ("[ab", "[ab", true),
            ("a", "b", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
