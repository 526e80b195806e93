//! Unit and property tests.

use proptest::prelude::*;

use super::*;
use crate::account::{CacheStatus, Outcome, Usage};
use crate::testing::{Region, cases};

const KEY: &[u8] = b"$host";

fn written(table: &Table) -> Vec<u8> {
    let mut file = Vec::new();
    write(table, KEY, &mut file).unwrap();
    file
}

/// The same lines with another end, as if they had been written like that.
fn resummed(body: &str) -> Vec<u8> {
    [body, &end(crc32fast::hash(body.as_bytes()))].concat().into_bytes()
}

fn body(file: &[u8]) -> String {
    str::from_utf8(&file[..file.len() - END_BYTES]).unwrap().to_string()
}

fn contents(table: &Table) -> Vec<(Vec<u8>, Totals)> {
    accounts(table).map(|(key, totals)| (key.to_vec(), totals)).collect()
}

fn count(table: &Table, key: &[u8], n: u64) {
    let found = table.find_or_insert(key, &mut Spare::default());
    let account = table.account(found.slot);
    account.add(n, &Usage { cpu_ns: n, wakeups: 1, sent_bytes: 2 * n, received_bytes: n / 3 });
    account.finish(&Outcome {
        status: n % 700,
        cache: CacheStatus::from_nginx(n as usize % 9),
        connection_order: n % 6,
        response_bytes: n,
        cpu_ns: n,
    });
}

/// Of what is tried with every byte, Miri gets a part.
const STEP: usize = if cfg!(miri) { 199 } else { 1 };

/// A small file.
fn example() -> Vec<u8> {
    let region = Region::new(20_000);
    let table = region.table().unwrap();
    count(&table, b"example.com", 200);
    count(&table, b"\xFF\"\n\\", 404_000);
    table.count_cut();
    written(&table)
}

#[test]
fn a_file_describes_its_content_as_text() {
    let text = String::from_utf8(example()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let start =
        r#"{"request_cpu_state":1,"key":"$host","overflowed":0,"cut":1,"counters":["cpu_ns","wakeups","#;
    assert!(lines[0].starts_with(start), "{}", lines[0]);
    assert!(lines[1].starts_with(r#"["example.com",[200,1,400,66,"#), "{}", lines[1]);
    assert!(lines[2].starts_with(r#"["\\xFF\"\\x0A\\x5C",[404000,1,"#), "{}", lines[2]);
    assert_eq!(lines.len(), 4);
    assert!(lines[3].starts_with("{\"crc32\":\""));
}

#[test]
fn accounts_that_counted_nothing_are_not_kept() {
    let region = Region::new(20_000);
    let table = region.table().unwrap();
    table.find_or_insert(b"waits", &mut Spare::default());
    let saved = read(&written(&table), KEY).unwrap();
    assert_eq!(saved.restore(&Region::new(20_000).table().unwrap()), Restored::default());
}

#[test]
fn every_truncation_is_refused() {
    let file = example();
    for bytes in (0..file.len()).step_by(STEP) {
        let refused = read(&file[..bytes], KEY).unwrap_err();
        assert_eq!(refused, Refused::Truncated, "{bytes} of {}", file.len());
    }
    assert!(read(&file, KEY).is_ok());
    assert!(read(&[&file[..], b"\n"].concat(), KEY).is_err());
}

#[test]
fn every_flipped_bit_is_refused() {
    let mut file = example();
    for at in (0..file.len()).step_by(STEP) {
        for bit in 0..8 {
            file[at] ^= 1 << bit;
            assert!(read(&file, KEY).is_err(), "bit {bit} of byte {at}");
            file[at] ^= 1 << bit;
        }
    }
    assert!(read(&file, KEY).is_ok());
}

#[test]
fn a_refusal_says_why() {
    let file = example();
    let reason = |file: &[u8]| read(file, KEY).unwrap_err().to_string();
    assert_eq!(reason(b""), "it is truncated");
    assert_eq!(reason(b"root:x:0:0:root:/root:/bin/bash\n"), "it is not a state file");
    assert_eq!(read(&file, b"$uri").unwrap_err().to_string(), "it was saved for the key \"$host\"");
    let other = body(&file).replacen(":1,", ":27,", 1);
    assert_eq!(reason(&resummed(&other)), "it has version 27, known is 1");
    let wrong = body(&file).replacen("\"cut\":1", "\"cut\":-1", 1);
    assert_eq!(reason(&resummed(&wrong)), "it is damaged");
    let wrong = body(&file).replacen(",[200,", ",[200,1,", 1);
    assert_eq!(reason(&resummed(&wrong)), "it is damaged", "one counter too many");
}

#[test]
fn a_file_with_fewer_counters_or_unknown_ones_can_be_read() {
    let region = Region::new(20_000);
    let older = "{\"request_cpu_state\":1,\"key\":\"$host\",\"overflowed\":3,\"cut\":4,\"more\":[5],\
                 \"counters\":[\"responses.2xx\",\"joules\",\"cpu_ns\"]}\n[\"a\",[7,8,9]]\n";
    let table = region.table().unwrap();
    let restored = read(&resummed(older), KEY).unwrap().restore(&table);
    assert_eq!(restored, Restored { accounts: 1, overflowed: 0 });
    let fill = table.fill();
    assert_eq!((fill.overflowed, fill.cut), (3, 4));
    let snapshot = table.account(table.find(b"a").unwrap()).snapshot(0, 1);
    assert_eq!((snapshot.responses[1], snapshot.usage.cpu_ns, snapshot.usage.wakeups), (7, 9, 0));
}

#[test]
fn what_finds_no_room_is_added_to_the_overflow_account() {
    let (large, small) = (Region::new(40_000), Region::new(10_000));
    let (from, to) = (large.table().unwrap(), small.table().unwrap());
    let capacity = to.fill().capacity as usize;
    for n in 0..20 {
        count(&from, format!("key{n}").as_bytes(), 1000 + n);
    }
    count(&from, b"*", 500);
    from.count_overflowed();
    from.conclude();
    let sum = |table: &Table| {
        contents(table)
            .iter()
            .fold([0; COUNTERS], |sum, (_, totals)| core::array::from_fn(|at| sum[at] + totals.0[at]))
    };
    let restored = read(&written(&from), KEY).unwrap().restore(&to);
    assert_eq!(restored, Restored { accounts: capacity, overflowed: 20 - capacity });
    assert_eq!(sum(&to), sum(&from));
    assert_eq!(to.fill().overflowed, 1 + 20 - capacity as u64);
    // the same without a file
    let region = Region::new(10_000);
    let to = region.table().unwrap();
    assert_eq!(copy(&from, &to), restored);
    assert_eq!(sum(&to), sum(&from));
}

#[test]
fn cpu_of_an_unclassified_second_is_waived() {
    let (one, other) = (Region::new(20_000), Region::new(20_000));
    let (from, to) = (one.table().unwrap(), other.table().unwrap());
    for (now_ms, cpu_ns) in [(5_000, 20_000_000), (7_000, 3_000_000), (8_500, 50_000_000)] {
        let usage = Usage { cpu_ns, ..Usage::default() };
        from.account(from.find_or_insert(b"a", &mut Spare::default()).slot).add(now_ms, &usage);
    }
    read(&written(&from), KEY).unwrap().restore(&to);
    let billing = to.account(to.find(b"a").unwrap()).billing().read();
    assert_eq!((billing.billable_cpu_ns, billing.waived_cpu_ns), (20_000_000, 53_000_000));
}

#[test]
fn errors_of_a_writer_are_returned() {
    let region = Region::new(20_000);
    let table = region.table().unwrap();
    count(&table, b"a", 5);
    let length = written(&table).len();
    for room in (0..length).step_by(STEP) {
        let mut space = vec![0; room];
        assert!(write(&table, KEY, &mut space[..]).is_err(), "{room} of {length} bytes");
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_written_table_is_read_again(
        requests in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..6), 0u64..1 << 40), 0..12),
        long in prop::collection::vec(any::<u8>(), 250..260), key_text: Vec<u8>,
    ) {
        let (one, other) = (Region::new(65_536), Region::new(65_536));
        let (from, to) = (one.table().unwrap(), other.table().unwrap());
        for (key, n) in &requests {
            count(&from, key, *n);
            from.count_overflowed();
        }
        count(&from, &long, 1);
        from.conclude();
        let mut file = Vec::new();
        write(&from, &key_text, &mut file).unwrap();
        let restored = read(&file, &key_text).unwrap().restore(&to);
        prop_assert_eq!(contents(&from), contents(&to));
        prop_assert_eq!(from.fill(), to.fill());
        prop_assert_eq!(restored.overflowed, 0);
        let mut again = Vec::new();
        write(&to, &key_text, &mut again).unwrap();
        prop_assert_eq!(file, again);
    }

    #[test]
    fn whatever_bytes_there_are_they_are_refused(bytes: Vec<u8>, valid_start: bool) {
        let start: &[u8] = if valid_start { b"{\"request_cpu_state\":1," } else { b"" };
        prop_assert!(read(&[start, &bytes].concat(), KEY).is_err());
    }

    #[test]
    fn any_lines_are_read_or_refused(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "[", "]", "{", "}", ",", ":", "\"", "\\", "\n", "\"key\":\"$host\"", "\"counters\":[\"cpu_ns\"]",
                "\"cut\":1", "\"overflowed\":18446744073709551615", "[\"a\",[1]]", "[\"\\u0000\",[", "1e99", "-1",
                "\\xF", "\\x4", "[[[[[[[[", "null",
            ]),
            0..24,
        ),
    ) {
        let text = format!("{{\"request_cpu_state\":1,{}", parts.concat());
        if let Ok(saved) = read(&resummed(&text), KEY) {
            saved.restore(&Region::new(20_000).table().unwrap());
        }
    }
}
