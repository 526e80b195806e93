//! A connection that is kept open, with at most one request on its way.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// An answer must fit: the requests are small ones.
const BUFFER_BYTES: usize = 256 * 1024;
const HEADERS: usize = 64;

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    /// Length of the answer with its head, once the head is complete.
    expected: Option<usize>,
}

impl Connection {
    /// Connects, and waits for the answer of a first request, so that the costs of a new connection are past.
    pub(crate) fn open(address: SocketAddr, request: &[u8]) -> Result<Self> {
        let timeout = Duration::from_secs(10);
        let stream = TcpStream::connect_timeout(&address, timeout)
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        let mut connection = Self { stream, buffer: vec![0; BUFFER_BYTES], filled: 0, expected: None };
        connection.send(request)?;
        while !connection.receive()? {}
        connection.stream.set_nonblocking(true)?;
        Ok(connection)
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a request, for which the socket always has room, since the one before has been answered.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<()> {
        self.filled = 0;
        self.expected = None;
        self.stream.write_all(request).context("a request was not sent")
    }

    /// Reads once, and tells whether the answer is complete.
    pub(crate) fn receive(&mut self) -> Result<bool> {
        let Some(free @ [_, ..]) = self.buffer.get_mut(self.filled..) else {
            bail!("an answer is longer than {BUFFER_BYTES} bytes");
        };
        match self.stream.read(free) {
            Ok(0) => bail!("the server closed a connection before it answered"),
            Ok(bytes) => self.filled += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(error).context("an answer was not read"),
        }
        if self.expected.is_none() {
            self.expected = answer_length(self.buffer.get(..self.filled).unwrap_or_default())?;
        }
        let Some(expected) = self.expected else { return Ok(false) };
        ensure!(self.filled <= expected, "an answer is longer than its Content-Length");
        Ok(self.filled == expected)
    }
}

/// Length of an answer with its head; none where the head is not complete.
fn answer_length(bytes: &[u8]) -> Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) =
        answer.parse(bytes).context("the server does not answer with HTTP/1.1")?
    else {
        return Ok(None);
    };
    let status = answer.code.unwrap_or_default();
    ensure!((200..300).contains(&status), "the server answered with status {status}");
    let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length =
        length.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse::<usize>().ok());
    let body = length.context("an answer has no Content-Length")?;
    Ok(head.checked_add(body))
}

#[cfg(test)]
mod tests {
    use super::answer_length;

    #[test]
    fn an_answer_is_as_long_as_its_head_and_its_content_length() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe";
        assert_eq!(answer_length(answer).unwrap(), Some(answer.len() + 3));
        assert_eq!(answer_length(&answer[..20]).unwrap(), None);
    }

    #[test]
    fn an_answer_that_does_not_count_is_refused() {
        for (answer, message) in [
            ("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", "status 429"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "no Content-Length"),
            ("nonsense\r\n\r\n", "HTTP/1.1"),
        ] {
            let error = answer_length(answer.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
