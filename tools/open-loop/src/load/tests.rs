//! The load against a server of this process, whose answers take as long as a test says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{sleep, spawn};
use std::time::Duration;

use super::Load;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Serves so many connections beside each other. `answer` is called for each request, with the numbers of its
/// connection and of the request on it. The first request of each connection is not counted in the latency.
fn serve(connections: usize, answer: fn(usize, u32, &mut TcpStream)) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    spawn(move || {
        for (connection, stream) in listener.incoming().take(connections).enumerate() {
            spawn(move || {
                let mut stream = stream.unwrap();
                let mut request = [0; REQUEST.len()];
                for number in 0.. {
                    if stream.read_exact(&mut request).is_err() {
                        break;
                    }
                    answer(connection, number, &mut stream);
                }
            });
        }
    });
    address
}

fn load(address: std::net::SocketAddr, milliseconds: u64, requests: u64, connections: usize) -> Load {
    let interval = Duration::from_millis(milliseconds);
    Load { address, request: REQUEST.to_vec(), interval, requests, connections }
}

fn milliseconds(ns: u64) -> u64 {
    ns / 1_000_000
}

#[test]
fn latency_counts_from_the_time_at_which_a_request_was_due() {
    // each answer takes 20 ms, and a request is due every 10 ms: the last of 10 is sent at 180 ms, and was due at 90
    let address = serve(1, |_, _, stream| {
        sleep(Duration::from_millis(20));
        stream.write_all(ANSWER).unwrap();
    });
    let outcome = load(address, 10, 10, 1).run().unwrap();
    assert_eq!(outcome.latency.len(), 10);
    assert!(milliseconds(outcome.latency.min()) >= 20);
    assert!(milliseconds(outcome.latency.max()) >= 110, "{} ms", milliseconds(outcome.latency.max()));
}

#[test]
fn a_slow_answer_does_not_hold_back_later_requests() {
    // the second answer of the first connection takes a second; the other connections go on meanwhile
    let address = serve(4, |connection, number, stream| {
        sleep(Duration::from_millis(if connection == 0 && number == 1 { 1000 } else { 0 }));
        stream.write_all(ANSWER).unwrap();
    });
    let outcome = load(address, 5, 40, 4).run().unwrap();
    assert_eq!(outcome.latency.len(), 40);
    assert!(milliseconds(outcome.latency.max()) >= 999);
    // had the requests behind it waited, they would have taken longer than 800 ms
    let median = milliseconds(outcome.latency.value_at_quantile(0.5));
    assert!(median < 500, "{median} ms");
}

#[test]
fn a_wait_for_a_free_connection_is_no_lag_of_the_program() {
    let address = serve(1, |_, _, stream| {
        sleep(Duration::from_millis(100));
        stream.write_all(ANSWER).unwrap();
    });
    let outcome = load(address, 1, 4, 1).run().unwrap();
    assert!(milliseconds(outcome.latency.max()) >= 397);
    assert!(milliseconds(outcome.lag.max()) < 250, "{} ms", milliseconds(outcome.lag.max()));
    assert!(outcome.late.as_millis() < 250, "{:?}", outcome.late);
}

#[test]
fn an_answer_in_pieces_ends_with_its_last_piece() {
    let address = serve(1, |_, _, stream| {
        stream.write_all(&ANSWER[..10]).unwrap();
        sleep(Duration::from_millis(30));
        stream.write_all(&ANSWER[10..]).unwrap();
    });
    let outcome = load(address, 1, 2, 1).run().unwrap();
    assert!(milliseconds(outcome.latency.min()) >= 30);
}

#[test]
fn a_connection_that_the_server_closes_is_an_error() {
    let address = serve(1, |_, number, stream| {
        if number < 3 {
            stream.write_all(ANSWER).unwrap();
        } else {
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
    });
    let error = load(address, 1, 10, 1).run().err().unwrap();
    assert!(error.to_string().contains("closed"), "{error:#}");
}
