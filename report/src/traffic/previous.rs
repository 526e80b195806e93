//! What a thread remembers of the line before. Lines are written in batches, so most lines repeat it.

use crate::time::{self, Millis};
use formats::line::{Line, MAX_INTERVAL_MS};

/// The result for the latest name. Most of the following lines have the same name.
#[derive(Default)]
pub struct Latest<T>(Option<(String, T)>);

impl<T: Copy> Latest<T> {
    /// The known result for this name, or the result of `find`.
    pub fn get(&mut self, name: &str, find: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        match &self.0 {
            Some((latest, found)) if latest == name => Ok(*found),
            _ => {
                let found = find()?;
                self.0 = Some((name.to_owned(), found));
                Ok(found)
            }
        }
    }
}

/// The time of the previous line. Lines are written in batches of the same time.
#[derive(Debug, Default)]
pub struct LastTime {
    text: String,
    time: Millis,
}

impl LastTime {
    /// The begin and the end of a line's interval. An interval of length 0 is taken for one millisecond.
    pub fn interval(&mut self, line: &Line<'_>) -> Result<(Millis, Millis), String> {
        if line.time != self.text {
            let time = time::parse(&line.time).ok_or_else(|| format!("invalid time {:?}", line.time))?;
            line.time.as_ref().clone_into(&mut self.text);
            self.time = time;
        }
        if line.interval_ms > MAX_INTERVAL_MS {
            let most = MAX_INTERVAL_MS;
            return Err(format!("\"interval_ms\" is {}, and it must be at most {most}", line.interval_ms));
        }
        // the check above keeps it far below 2^63
        let begin = self.time - line.interval_ms.max(1) as Millis;
        if begin < 0 { Err("the interval begins before 1970".to_owned()) } else { Ok((begin, self.time)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = concat!(
        r#"{"time":"2026-01-31T12:01:00.000Z","interval_ms":60000,"zone":"z","key":"a","requests":1"#,
        r#","cpu_ns":2,"sent_bytes":3}"#,
    );

    fn interval(line: &str) -> Result<(Millis, Millis), String> {
        LastTime::default().interval(&Line::read(line.as_bytes(), false).unwrap())
    }

    #[test]
    fn an_interval_ends_at_the_time_of_its_line() {
        let end = time::parse("2026-01-31T12:01:00Z").unwrap();
        assert_eq!(interval(LINE), Ok((end - 60_000, end)));
    }

    #[test]
    fn the_longest_interval_of_the_module_is_read() {
        let of = |ms: u64| interval(&LINE.replacen("60000", &ms.to_string(), 1));
        let most = MAX_INTERVAL_MS;
        assert_eq!(of(most).map(|(begin, end)| end - begin), Ok(most as Millis));
        assert!(of(most + 1).unwrap_err().contains("must be at most 316224000000"));
    }

    #[test]
    fn an_interval_that_makes_no_sense_is_refused() {
        for (from, to) in [
            ("60000", "999999999999"),
            ("2026-01-31T", "31/Jan/2026:"),
            ("2026", "1969"),
            ("2026-01-31T12:01", "1970-01-01T00:00"),
        ] {
            assert!(interval(&LINE.replacen(from, to, 1)).is_err(), "{to}");
        }
    }

    proptest! {
        #[test]
        fn the_interval_of_a_damaged_line_is_read_or_refused(at in 0..LINE.len(), byte in any::<u8>()) {
            let mut bytes = LINE.as_bytes().to_vec();
            bytes[at] = byte;
            if let Ok(line) = Line::read(&bytes, false) {
                let _ = LastTime::default().interval(&line);
            }
        }
    }
}
