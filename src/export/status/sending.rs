//! The sending of an answer: it is rendered piece by piece while it is sent.

use std::time::Instant;

use accounting::render::Answer;
use nginx_sys::{NGX_ERROR, NGX_HTTP_NOT_FOUND, ngx_int_t};

use crate::export::status::turns;
use crate::measure::clock::shared_ms;
use crate::nginx::content::{self, Pending, Piece, Request, Turn};
use crate::nginx::cycle::CycleId;

/// An answer is sent in pieces of this many bytes, or slightly more. An answer that fits into one piece has a
/// `Content-Length`.
pub const PIECE_BYTES: usize = 64 * 1024;
/// The clock is read once in this many steps of rendering. A step takes some microseconds at most.
const STEPS_PER_READING: usize = 16;

const FAILED: Turn = Turn::Done(NGX_ERROR as ngx_int_t);

struct Sending {
    request: Request,
    cycle: CycleId,
    /// the part that is not rendered yet
    answer: Option<Answer>,
    /// the piece that is being rendered or sent
    piece: Piece,
}

/// Begins to send a text and the output of `answer` after it. Finishes at once if the client takes everything. Returns
/// the return value of the content handler.
pub fn begin(request: Request, answer: Option<Answer>, text: Vec<u8>) -> ngx_int_t {
    let piece = Piece::new(request, text);
    content::begin(request, Sending { request, cycle: CycleId::running(), answer, piece })
}

impl Drop for Sending {
    fn drop(&mut self) {
        turns::leave(self.request);
    }
}

impl Pending for Sending {
    fn request(&self) -> Request {
        self.request
    }

    fn waits_for_turn(&self) -> bool {
        turns::is_waiting(self.request)
    }

    /// Renders and sends for a time slice if it is this answer's turn. Otherwise waits for its turn.
    fn go_on(&mut self) -> Turn {
        if self.cycle != CycleId::running() {
            // a single process was told to reload, and the zones may be gone
            return FAILED;
        }
        let begin = Instant::now();
        let turn = if !self.request.is_active() {
            // Events of the connection do not reach this request. A first piece is made, and the rest once the request
            // is active.
            let turn = self.work(None);
            turns::ran(self.request, begin.elapsed());
            turn
        } else if let Some(slice) = turns::slice(self.request) {
            let turn = self.work(Some(begin + slice));
            let is_waiting = !matches!(turn, Turn::Spent) || turns::wait(self.request).is_ok();
            turns::ran(self.request, begin.elapsed());
            if is_waiting { turn } else { FAILED }
        } else if turns::wait(self.request).is_ok() {
            Turn::Spent
        } else {
            FAILED
        };
        if matches!(turn, Turn::Spent) {
            self.request.start_timer();
        }
        turn
    }
}

impl Sending {
    /// Renders and sends until the time slice is over, the client takes no more, or everything is sent.
    fn work(&mut self, turn_ends: Option<Instant>) -> Turn {
        self.request.stop_timer();
        if self.piece.text().is_none() {
            if let Err(rc) = self.request.flush() {
                return Turn::Done(rc);
            }
            if self.piece.text().is_none() {
                return self.wait();
            }
        }
        while self.render(turn_ends) {
            if let Err(rc) = self.piece.send(self.answer.is_none()) {
                return Turn::Done(rc);
            }
            if self.piece.text().is_none() {
                return self.wait();
            }
        }
        Turn::Spent
    }

    /// Fills the piece. Returns whether it is complete.
    fn render(&mut self, turn_ends: Option<Instant>) -> bool {
        let Some(text) = self.piece.text() else { return false };
        while let Some(answer) = &mut self.answer
            && text.len() < PIECE_BYTES
        {
            for _ in 0..STEPS_PER_READING {
                if !answer.write_some(shared_ms(), text) {
                    if answer.is_missing() {
                        // The whole message is in the first piece, and the header is sent with that piece.
                        self.request.set_status(NGX_HTTP_NOT_FOUND);
                    }
                    self.answer = None;
                    return true;
                }
            }
            if text.len() < PIECE_BYTES && turn_ends.is_some_and(|ends| Instant::now() >= ends) {
                return false;
            }
        }
        true
    }

    /// Waits until the client takes more.
    fn wait(&mut self) -> Turn {
        self.request.wait_for_client().map_or_else(Turn::Done, |()| Turn::Later)
    }
}
