//! A reader that can show the next bytes before they are read.

use std::io::{self, BufRead, Read};

/// The size of reads from files.
const BUFFER_BYTES: usize = 1 << 18;

/// A buffered reader whose next bytes can be looked at.
pub struct Peek {
    inner: Box<dyn Read>,
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
    /// an error after the bytes in the buffer
    error: Option<io::Error>,
}

impl Peek {
    pub fn new(inner: Box<dyn Read>) -> Self {
        Self { inner, buffer: vec![0; BUFFER_BYTES], begin: 0, end: 0, error: None }
    }

    /// The next `count` bytes, or fewer if the data end before, or an error comes before.
    pub fn peek(&mut self, count: usize) -> &[u8] {
        if self.begin + count > self.buffer.len() {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        while self.end - self.begin < count && self.error.is_none() {
            match self.inner.read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(got) => self.end += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.error = Some(error),
            }
        }
        let there = self.buffer.get(self.begin..self.end).unwrap_or_default();
        there.get(..count).unwrap_or(there)
    }

    /// Passes over the next bytes that are zero.
    pub fn skip_zeros(&mut self) -> io::Result<()> {
        loop {
            let there = self.fill_buf()?;
            let zeros = there.iter().take_while(|byte| **byte == 0).count();
            let is_over = zeros < there.len() || there.is_empty();
            self.consume(zeros);
            if is_over {
                return Ok(());
            }
        }
    }
}

impl Read for Peek {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.begin == self.end && self.error.is_none() && into.len() >= self.buffer.len() {
            return self.inner.read(into);
        }
        let mut there = self.fill_buf()?;
        let got = there.read(into)?;
        self.consume(got);
        Ok(got)
    }
}

impl BufRead for Peek {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.begin == self.end {
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            (self.begin, self.end) = (0, 0);
            self.end = self.inner.read(&mut self.buffer)?;
        }
        Ok(self.buffer.get(self.begin..self.end).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.begin = (self.begin + count).min(self.end);
    }
}
