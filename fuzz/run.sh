#!/bin/sh
# Builds the fuzz targets for libFuzzer and runs each of them:
#
#     fuzz/run.sh DIRECTORY [OPTIONS OF LIBFUZZER...]
#
# What is found that is new is kept in DIRECTORY/corpus, and what breaks a target in
# DIRECTORY/artifacts. The flags are those of cargo-fuzz, without a sanitizer, which stable Rust has
# not: the crates under test have no unsafe code, so what can go wrong is a panic.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
[ $# -ge 1 ] || { echo "fuzz: which directory to keep the findings in?" >&2; exit 2; }
mkdir -p "$1"
directory=$(CDPATH='' cd -- "$1" && pwd)
shift

# With a target named, the flags are not for build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
flags="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
for feature in inline-8bit-counters pc-table trace-compares; do
    flags="$flags -Cllvm-args=-sanitizer-coverage-$feature"
done
RUSTFLAGS=$flags CARGO_TARGET_DIR="$directory/target" \
    cargo build --locked --release --target "$host" --manifest-path "$here/Cargo.toml"

mkdir -p "$directory/artifacts"
export here host directory
# shellcheck disable=SC2016 # for the shells that xargs starts, one a core
run='
    target=$1
    shift
    corpus=$directory/corpus/$target
    log=$directory/$target.log
    mkdir -p "$corpus"
    "$directory/target/$host/release/$target" "$@" -artifact_prefix="$directory/artifacts/$target-" \
        -timeout=10 "$corpus" "$here/seeds/$target" >"$log" 2>&1 || {
        tail -n 40 "$log" >&2
        echo "fuzz: $target is broken by what is in $directory/artifacts; the whole output is in $log" >&2
        exit 255
    }
    result=$(grep -E "^(Done|stat::)|DONE" "$log" || tail -n 2 "$log")
    printf "fuzz: %s\n%s\n" "$target" "$result"
'
for file in "$here"/targets/*.rs; do
    basename "$file" .rs
done | xargs -P "$(nproc)" -I TARGET sh -c "$run" sh TARGET "$@"
