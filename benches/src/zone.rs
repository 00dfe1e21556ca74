//! The zone alone: what a look-up costs, and what several processes that write do to it.

use std::fs::OpenOptions;
use std::hint::{black_box, spin_loop};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, io, ptr, slice};

use keystone_testbed::temp::TempDir;
use keystone_zone::{Cache, CacheParams, Key, Lookup, Verdict, WORD};

use crate::report::median;
use crate::Failure;

/// Nanoseconds of a look-up, with so many tokens in the zone: of a thousand of them that are in use,
/// and of all of them at random.
pub struct Growth {
    /// How many tokens.
    pub tokens: usize,
    /// Nanoseconds where the same thousand tokens are looked up.
    pub in_use: Vec<f64>,
    /// Nanoseconds where any token is looked up.
    pub at_random: Vec<f64>,
}

/// Measures look-ups in zones that hold a thousand tokens and more.
pub fn grow() -> Vec<Growth> {
    let zones: Vec<_> = SIZES.iter().map(|tokens| (*tokens, filled(*tokens))).collect();
    let mut grown: Vec<_> = SIZES
        .iter()
        .map(|&tokens| Growth { tokens, in_use: Vec::new(), at_random: Vec::new() })
        .collect();
    // One zone after the other, again and again.
    for _ in 0..ROUNDS {
        for ((tokens, words), growth) in zones.iter().zip(&mut grown) {
            growth.in_use.push(look_up(words, 1_000));
            growth.at_random.push(look_up(words, *tokens as u64));
        }
    }
    grown
}

fn filled(tokens: usize) -> Vec<AtomicU64> {
    let words = zeroed(tokens * BYTES_FOR_TOKEN + (1 << 20));
    let cache = Cache::new(&words);
    for number in 0..tokens as u64 {
        cache.insert(&key(number), &Verdict::Valid(&[b'x'; RECORD]), u64::MAX, &MOMENT);
    }
    words
}

/// Nanoseconds of a look-up of one of the first `tokens` tokens. Batches so short that what disturbs
/// some of them leaves the median alone.
fn look_up(words: &[AtomicU64], tokens: u64) -> f64 {
    let (mut numbers, mut out) = (Numbers(1), Vec::with_capacity(2 * RECORD));
    let batch = |_| {
        let keys: Vec<Key> = (0..BATCH).map(|_| key(numbers.next() % tokens)).collect();
        let begin = Instant::now();
        for key in &keys {
            out.clear();
            black_box(Cache::new(words).lookup(black_box(key), &MOMENT, &mut out));
        }
        begin.elapsed().as_secs_f64() * 1e9 / BATCH as f64
    };
    median((0..BATCHES).map(batch))
}

/// Of a thousand look-ups by each of [`PROCESSES`] processes, of which one operation in ten is a
/// write: how many found nothing although the token is there.
pub fn missed() -> Result<f64, Failure> {
    let dir = TempDir::new("zone")?;
    let file = dir.join("zone");
    let words = map(&file)?;
    for number in 0..SHARED_TOKENS {
        let cache = Cache::new(&words[1..]);
        cache.insert(&key(number), &Verdict::Valid(&[b'x'; RECORD]), u64::MAX, &MOMENT);
    }
    let start = |seed: usize| {
        let mut command = Command::new(env::current_exe()?);
        command.arg("zone-process").arg(&file).arg(seed.to_string()).stdout(Stdio::piped());
        command.spawn()
    };
    let children: Vec<Child> = (1..=PROCESSES).map(start).collect::<io::Result<_>>()?;
    let (mut looked_up, mut missed) = (0.0, 0.0);
    for child in children {
        let output = child.wait_with_output()?;
        let text = String::from_utf8(output.stdout)?;
        let (all, of_it) = text.trim().split_once(' ').ok_or("a process of the zone has failed")?;
        looked_up += all.parse::<f64>()?;
        missed += of_it.parse::<f64>()?;
    }
    Ok(missed / looked_up * 100.0)
}

/// One of the processes of [`missed`].
pub fn process(file: &Path, seed: &str) -> Result<(), Failure> {
    let words = map(file)?;
    let (lock, cache) = (&words[0], Cache::new(&words[1..]));
    let (mut numbers, mut out) = (Numbers(seed.parse()?), Vec::new());
    let (mut looked_up, mut missed) = (0, 0);
    let begin = Instant::now();
    while begin.elapsed() < SHARED_TIME {
        for _ in 0..100 {
            let (number, what) = (numbers.next() % SHARED_TOKENS, numbers.next() % 10);
            if what == 0 {
                // As nginx's mutex: it spins.
                while lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
                    spin_loop();
                    std::thread::yield_now();
                }
                cache.insert(&key(number), &Verdict::Valid(&[b'y'; RECORD]), u64::MAX, &MOMENT);
                lock.store(0, Ordering::Release);
            } else {
                out.clear();
                looked_up += 1;
                let found = cache.lookup(&key(number), &MOMENT, &mut out);
                missed += i32::from(!matches!(found, Lookup::Valid(_)));
            }
        }
    }
    println!("{looked_up} {missed}");
    Ok(())
}

/// Maps a file as shared memory, which is zero if the file is new. It stays mapped.
fn map(file: &Path) -> Result<&'static [AtomicU64], Failure> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file)?;
    file.set_len(SHARED_BYTES as u64)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of a file that is open; nothing else is at its place.
    let memory = unsafe {
        libc::mmap(ptr::null_mut(), SHARED_BYTES, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error().into());
    }
    // SAFETY: the mapping is as long, aligned to pages, and never unmapped; any bytes are atomics,
    // and all processes use it as such.
    Ok(unsafe { slice::from_raw_parts(memory.cast(), SHARED_BYTES / WORD) })
}

fn zeroed(bytes: usize) -> Vec<AtomicU64> {
    (0..bytes / WORD).map(|_| AtomicU64::new(0)).collect()
}

/// George Marsaglia's xorshift.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }
}

/// As evenly distributed as the digests that are keys (a step of SplitMix64 for each word).
fn key(number: u64) -> Key {
    [1, 2, 3, 4].map(|word| {
        let mut value =
            number.wrapping_mul(4).wrapping_add(word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    })
}

const MOMENT: CacheParams =
    CacheParams { generation: 1, now: 1, tick: 1, valid_for: 3600, refused_for: 60 };

/// The mean size of a record.
const RECORD: usize = 512;

/// What an entry takes, with room to spare: nothing is to be evicted.
const BYTES_FOR_TOKEN: usize = 900;

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const ROUNDS: usize = 15;
const BATCH: usize = 64;
const BATCHES: usize = 400;

const PROCESSES: usize = 8;
const SHARED_BYTES: usize = 16 << 20;
const SHARED_TOKENS: u64 = 10_000;
const SHARED_TIME: Duration = Duration::from_millis(1500);
