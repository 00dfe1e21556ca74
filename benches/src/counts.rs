//! Instructions that callgrind has counted: read, kept in a file, and compared.

use std::collections::BTreeMap;

use crate::Failure;

/// The instructions of one part, and of the functions in it.
pub struct Count {
    total: u64,
    functions: BTreeMap<String, u64>,
}

/// In the order in which they are measured.
pub type Counts = Vec<(String, Count)>;

impl Count {
    /// Reads what callgrind has written while something was done so many times: the costs of each
    /// function's own lines. Those of its calls come after a line `calls=` and are not its own.
    pub fn read(text: &str, times: usize) -> Self {
        let mut names = BTreeMap::new();
        let (mut function, mut is_call) = ("", false);
        let mut own: BTreeMap<&str, u64> = BTreeMap::new();
        for line in text.lines() {
            let name = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn="));
            if let Some(name) = name {
                // `(12) name` for the first time, then `(12)`.
                let (number, name) = name.split_once(' ').unwrap_or((name, ""));
                if !name.is_empty() {
                    names.insert(number, name);
                }
                if line.starts_with("fn=") {
                    function = number;
                }
            } else if line.starts_with("calls=") {
                is_call = true;
            } else if line
                .starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
            {
                let cost = line.split(' ').nth(1).and_then(|cost| cost.parse().ok()).unwrap_or(0);
                *own.entry(function).or_default() += if is_call { 0 } else { cost };
                is_call = false;
            }
        }
        let each = |cost: u64| cost / times as u64;
        let mut count = Self { total: each(own.values().sum()), functions: BTreeMap::new() };
        for (number, cost) in own {
            // Functions without a symbol are named by their address, which each build changes.
            let name = names.get(number).copied().unwrap_or(number);
            let name = if name.starts_with("0x") { "(without a name)" } else { name };
            *count.functions.entry(name.to_owned()).or_default() += each(cost);
        }
        count
    }

    /// Leaves glibc's allocator out: what it takes depends on what lies in the heap.
    pub fn without_allocator(mut self) -> Self {
        let is_its =
            |name: &str| ALLOCATOR.contains(&name.split_once('.').map_or(name, |(name, _)| name));
        self.functions.retain(|name, own| match is_its(name) {
            true => {
                self.total -= *own;
                false
            }
            false => true,
        });
        self
    }

    /// What is more than in another count.
    pub fn less(mut self, other: &Self) -> Self {
        self.total = self.total.saturating_sub(other.total);
        for (name, own) in &mut self.functions {
            *own = own.saturating_sub(other.functions.get(name).copied().unwrap_or(0));
        }
        self
    }

    /// Whether anything was counted.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    fn has_risen(&self, before: Option<&Self>) -> bool {
        before.is_some_and(|before| self.total * 100 > before.total * (100 + MOST_RISE))
    }
}

/// Reads the lines that [`to_text`] has written.
pub fn parse(text: &str) -> Result<Counts, Failure> {
    let mut counts = Counts::new();
    for line in text.lines() {
        let (name, number) = line.rsplit_once('\t').ok_or("a line without a number")?;
        let number = number.parse()?;
        match name.strip_prefix('\t') {
            Some(function) => {
                let (_, count) = counts.last_mut().ok_or("a function without a part")?;
                count.functions.insert(function.to_owned(), number);
            }
            None => {
                let count = Count { total: number, functions: BTreeMap::new() };
                counts.push((name.to_owned(), count));
            }
        }
    }
    Ok(counts)
}

/// Writes the lines that [`parse`] reads: one for each part and, below it, one for each function that
/// takes more than a hundredth of it.
pub fn to_text(counts: &Counts) -> String {
    let mut text = String::new();
    for (part, count) in counts {
        text += &format!("{part}\t{}\n", count.total);
        let large = count.functions.iter().filter(|(_, own)| **own * 100 > count.total);
        for (function, own) in large {
            text += &format!("\t{function}\t{own}\n");
        }
    }
    text
}

fn find<'a>(counts: &'a Counts, name: &str) -> Option<&'a Count> {
    counts.iter().find(|(part, _)| part == name).map(|(_, count)| count)
}

/// The parts that take more than before.
pub fn risen<'a>(now: &'a Counts, before: &'a Counts) -> impl Iterator<Item = &'a (String, Count)> {
    now.iter().filter(|(part, count)| count.has_risen(find(before, part)))
}

/// Prints a table for `docs/performance.md`, and below it which functions have grown.
pub fn print(now: &Counts, before: &Counts) {
    println!("| part | instructions | before |\n|---|---|---|");
    for (part, count) in now {
        let before = find(before, part).map_or("-".to_owned(), |it| it.total.to_string());
        println!("| {part} | {} | {before} |", count.total);
    }
    for (part, count) in risen(now, before) {
        println!("\n{part}: the functions that grew");
        let known = find(before, part).map(|before| &before.functions);
        let known = |name: &str| known.and_then(|known| known.get(name)).copied().unwrap_or(0);
        let mut grown: Vec<_> = count
            .functions
            .iter()
            .map(|(name, own)| (own.saturating_sub(known(name)), name, own))
            .filter(|(more, _, own)| more * 100 > count.total && more * 100 > *own * MOST_RISE)
            .collect();
        grown.sort_by(|one, other| other.cmp(one));
        for (_, name, own) in grown {
            println!("  {name}: {} -> {own}", known(name));
        }
    }
}

/// The functions of glibc's allocator, without what the compiler adds to their names.
const ALLOCATOR: [&str; 13] = [
    "_int_free",
    "_int_malloc",
    "_int_realloc",
    "_mid_memalign",
    "calloc",
    "free",
    "malloc",
    "malloc_consolidate",
    "posix_memalign",
    "realloc",
    "sysmalloc",
    "systrim",
    "unlink_chunk",
];

/// A rise that does not count, in per cent.
pub const MOST_RISE: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// As callgrind writes it: the second function calls the first and another one.
    const CALLGRIND: &str = "\
events: Ir
fl=(1) a.rs
fn=(1) one::function
10 160
+2 32
fn=(2) two
20 16
cfn=(1)
calls=3 10
* 192
cob=(4) libc
cfn=(3) memcpy
calls=1 0
* 1600
21 16
fn=(3)
0 1600
totals: 1824
";

    #[test]
    fn functions_are_counted_without_their_calls() {
        let count = Count::read(CALLGRIND, 16);
        let functions: Vec<_> = count.functions.iter().map(|(it, own)| (&**it, *own)).collect();
        assert_eq!(functions, [("memcpy", 100), ("one::function", 12), ("two", 2)]);
        assert_eq!(count.total, 114);
    }

    #[test]
    fn a_rise_of_more_than_three_per_cent_is_one() {
        let before = parse("a part\t1000\n\tmemcpy\t900\nanother\t5\n").unwrap();
        assert_eq!(find(&before, "a part").unwrap().functions["memcpy"], 900);
        for (total, has_risen) in [(900, false), (1030, false), (1031, true)] {
            let count = Count { total, functions: BTreeMap::new() };
            assert_eq!(count.has_risen(find(&before, "a part")), has_risen, "{total}");
            assert!(!count.has_risen(find(&before, "a new part")));
        }
        assert!(parse("\tmemcpy\t900\n").is_err());
        assert!(parse("a part\n").is_err());
    }
}
