//! An answer on its way to the client: it is rendered while it is sent, piece by piece.

use std::time::Instant;

use accounting::render::Answer;
use nginx_sys::{NGX_ERROR, NGX_HTTP_NOT_FOUND, ngx_int_t};

use crate::export::status::turns;
use crate::measure::clock::shared_ms;
use crate::nginx::content::{self, Pending, Piece, Request, Turn};
use crate::nginx::cycle::CycleId;

/// An answer is sent in pieces of this many bytes, or a little more; one that fits into a piece has a
/// `Content-Length`.
pub const PIECE_BYTES: usize = 64 * 1024;
/// The clock is read once in so many steps of rendering, each of which takes some microseconds at most.
const STEPS_PER_READING: usize = 16;

const FAILED: Turn = Turn::Done(NGX_ERROR as ngx_int_t);

struct Sending {
    request: Request,
    cycle: CycleId,
    /// what is still to be rendered
    answer: Option<Answer>,
    /// the piece that is being rendered or sent
    piece: Piece,
}

/// Begins to send a text and what `answer` adds to it, and finishes at once where the client takes it all.
/// Returns what the content handler must return.
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

    /// Renders and sends for a while, if it is this answer's turn; otherwise it waits for that.
    fn go_on(&mut self) -> Turn {
        if self.cycle != CycleId::running() {
            // a single process was told to reload, and the zones may be gone
            return FAILED;
        }
        let begin = Instant::now();
        let turn = if !self.request.is_active() {
            // Events of the connection do not come here. A first piece is made, and what comes next when it is
            // active.
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
    /// Renders and sends until there is no time left, the client takes no more, or all is done.
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

    /// Fills the piece; whether it is complete.
    fn render(&mut self, turn_ends: Option<Instant>) -> bool {
        let Some(text) = self.piece.text() else { return false };
        while let Some(answer) = &mut self.answer
            && text.len() < PIECE_BYTES
        {
            for _ in 0..STEPS_PER_READING {
                if !answer.write_some(shared_ms(), text) {
                    if answer.is_missing() {
                        // all of it is in the first piece, and the header comes with that
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
