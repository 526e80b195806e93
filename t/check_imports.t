# tools/check-imports finds an import that goes upwards, a circle of files and a layer that is not declared. It names
# file, line and import. Each fault is planted in a small crate.
use strict;
use warnings;
use File::Basename qw(dirname);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use FindBin;
use Test::More;

my $program = "$FindBin::Bin/../tools/check-imports";
my $tree = tempdir(CLEANUP => 1);

sub spew {
    my ($path, $text) = @_;
    make_path(dirname("$tree/$path"));
    open my $file, '>', "$tree/$path" or die "$path: $!\n";
    print {$file} $text;
    close $file or die "$path: $!\n";
}

# A crate without a fault. Comments, strings, tests and names of lifetimes have no imports.
my %clean = (
    'tools/layers' => "[src]\nlib = *   # all\ntop = middle base\nmiddle = base\nbase =\n",
    'src/lib.rs' => "mod base;\nmod middle;\nmod top;\nuse top::Reader;\n",
    'src/base.rs' => <<'RUST',
//! crate::top::Reader is not known here
pub mod clock;
/* use crate::top::Reader; /* nested */ use crate::middle; */
pub fn text<'a>(given: &'a str) -> (&'a str, char, char) {
    let _ = r#"use "crate::top""#;
    ("crate::top::Reader", '"', '\'')
}
#[cfg(test)]
mod tests {
    use crate::top::Reader;
    fn inside() { crate::middle::add(); }
}
#[cfg(all(test, unix))]
use crate::middle::add;
RUST
    'src/base/clock.rs' => "pub struct Clock { pub now: u64 }\n",
    'src/middle.rs' => <<'RUST',
mod laps;
pub use laps::{Lap, add as add_lap};
pub use crate::base::clock::Clock;
pub fn add() {}
RUST
    'src/middle/laps.rs' => "use super::Clock;\npub struct Lap(Clock);\npub fn add() {}\n",
    'src/top.rs' => <<'RUST',
use crate::{base::{self, clock::Clock}, middle::{
    Lap,
    add_lap as add,
}};
pub struct Reader;
RUST
);

my $no_fault = qr/^src: 6 files, 7 arrows, 0 upward imports, 0 circles of 0 files\n\z/;

sub check {
    my ($name, $expected, %changed) = @_;
    system('rm', '-rf', "$tree/src", "$tree/tools") == 0 or die "rm\n";
    my %files = (%clean, %changed);
    spew($_, $files{$_}) for keys %files;
    my $output = qx($^X '$program' --root '$tree' 2>&1);
    my $status = $? >> 8;
    subtest $name => sub {
        is($status, $expected ? 1 : 0, 'the status') or diag($output);
        like($output, $_, "the output has $_") for @{ $expected || [$no_fault] };
        my $reported = qx($^X '$program' --report --root '$tree' 2>&1);
        is($? >> 8, 0, 'with --report, the status is 0');
        is($reported, $output, 'with --report, the output is the same');
    };
}

check('a crate without a fault', undef);
check('an upward import',
    [qr{^src/base/clock\.rs:2: use crate::middle::laps::Lap: "base" must not import "middle" \(src/middle/laps\.rs\)$}m,
    qr/1 upward imports/],
    'src/base/clock.rs' => "pub struct Clock;\nuse crate::middle::laps::Lap;\n");
check('an upward import in a nested list over several lines',
    [qr{^src/base/clock\.rs:5: use crate::top::Reader: "base" must not import "top"}m],
    'src/base/clock.rs' => "use std::{\n    fmt, io::{self, Write}};\n"
        . "use crate::{\n    base::{self, clock},\n    top::{Reader, self},\n};\npub struct Clock;\n");
check('an upward import through super',
    [qr{^src/base/clock\.rs:1: use super::super::top::Reader: "base" must not import "top"}m],
    'src/base/clock.rs' => "use super::super::top::Reader;\npub struct Clock;\n");
check('an upward import in a module in braces',
    [qr{^src/base/clock\.rs:2: use super::super::super::middle::add: "base" must not import "middle"}m],
    'src/base/clock.rs' => "pub struct Clock;\n"
        . "mod inner { use super::super::super::middle::add; use super::Clock; }\n");
check('an upward path in code',
    [qr{^src/base/clock\.rs:2: crate::middle::add: "base" must not import "middle"}m],
    'src/base/clock.rs' => "pub struct Clock;\npub fn now() { if true { crate::middle::add() } }\n");
check('an upward import that a file passes on',
    [qr{^src/base/clock\.rs:1: use crate::middle::Lap: .* \(src/middle/laps\.rs\)$}m],
    'src/base/clock.rs' => "pub(crate) use crate::middle::Lap;\npub struct Clock;\n");
check('an import of the crate\'s root',
    [qr{^src/base/clock\.rs:1: use crate::version: "base" must not import "lib"}m],
    'src/lib.rs' => "$clean{'src/lib.rs'}pub fn version() {}\n",
    'src/base/clock.rs' => "use crate::version;\npub struct Clock;\n");
check('a circle of two files of one layer',
    [qr{^src: a circle of 2 files: middle/laps\.rs middle/owner\.rs$}m,
    qr{^    src/middle/laps\.rs:1: use super::owner::Owner  \(src/middle/owner\.rs\)$}m,
    qr{^    src/middle/owner\.rs:2: use crate::middle::laps::Lap  \(src/middle/laps\.rs\)$}m],
    'src/middle.rs' => "$clean{'src/middle.rs'}mod owner;\n",
    'src/middle/laps.rs' => "use super::owner::Owner;\npub struct Lap(Owner);\npub fn add() {}\n",
    'src/middle/owner.rs' => "\nuse crate::middle::laps::Lap;\npub struct Owner;\n");
check('a circle of a file and the file of its folder',
    [qr{^src: a circle of 2 files: middle\.rs middle/laps\.rs$}m],
    'src/middle/laps.rs' => "use super::add as other;\npub struct Lap;\npub fn add() {}\n");
check('a circle of three files',
    [qr{^src: a circle of 3 files: middle/a\.rs middle/b\.rs middle/c\.rs$}m],
    'src/middle.rs' => "$clean{'src/middle.rs'}mod a;\nmod b;\nmod c;\n",
    'src/middle/a.rs' => "pub fn a() { super::b::b() }\n", 'src/middle/b.rs' => "pub fn b() { super::c::c() }\n",
    'src/middle/c.rs' => "pub fn c() { super::a::a() }\n");
check('an upward import behind a field that only tests have',
    [qr{^src/base/clock\.rs:6: use crate::top::Reader}m],
    'src/base/clock.rs' => "pub struct Clock {\n    #[cfg(test)]\n    now: u64,\n    #[cfg(test)]\n    last: u64 }\n"
        . "use crate::top::Reader;\n");
check('a layer that is not declared',
    [qr{^src/side\.rs:1: the layer "side" is not declared in tools/layers$}m],
    'src/lib.rs' => "$clean{'src/lib.rs'}mod side;\n", 'src/side.rs' => "\n");

done_testing;
