//! Connections and events by their index in the arrays of a cycle.

use nginx_sys::{ngx_atomic_uint_t, ngx_connection_t, ngx_event_t};

use super::connection::Connection;
use super::event::Event;
use super::live::get;
use super::served::ServedCycle;

/// The arrays of a cycle.
pub struct Places {
    first: *mut ngx_connection_t,
    read_events: *mut ngx_event_t,
    write_events: *mut ngx_event_t,
    count: usize,
}

impl Places {
    /// The arrays of a cycle. If the cycle has more than `count` connections, the rest have no index.
    pub fn of(cycle: ServedCycle, count: usize) -> Places {
        Places {
            first: get!(cycle.live(), connections),
            read_events: get!(cycle.live(), read_events),
            write_events: get!(cycle.live(), write_events),
            count: count.min(get!(cycle.live(), connection_n)),
        }
    }

    #[inline]
    fn place<T>(&self, first: *mut T, pointer: *mut T) -> Option<usize> {
        let offset = pointer.addr().wrapping_sub(first.addr());
        let at = offset / size_of::<T>();
        (at < self.count).then_some(at)
    }

    /// The index of a connection. HTTP/2's fake connections have none.
    #[inline]
    pub fn index(&self, connection: Connection<'_>) -> Option<usize> {
        self.place(self.first, connection.as_ptr())
    }

    /// The index of the connection to which an event belongs. `ngx_event_process_init` pairs them for good.
    #[inline]
    pub fn index_of_event(&self, event: &Event<'_>) -> Option<usize> {
        let event = event.as_ptr();
        self.place(self.read_events, event).or_else(|| self.place(self.write_events, event))
    }

    /// The connection to which an event with this index belongs.
    #[inline]
    pub fn connection_of<'a>(&self, at: usize, _event: &'a Event<'_>) -> Connection<'a> {
        // SAFETY: An event of a connection is in use only while the connection is open.
        unsafe { self.connection(at) }
    }

    /// Whether an event is the write event of a connection.
    #[inline]
    pub fn is_write_event(&self, event: &Event<'_>) -> bool {
        self.place(self.write_events, event.as_ptr()).is_some()
    }

    /// The connection with this index.
    ///
    /// # Safety
    /// The connection must be open for `'a`.
    #[inline]
    pub unsafe fn connection<'a>(&self, at: usize) -> Connection<'a> {
        // SAFETY: as the caller says.
        unsafe { Connection::new(self.first.wrapping_add(at)) }
    }

    /// The number of the connection with this index; 0 if there is no such index.
    #[inline]
    pub fn number(&self, at: usize) -> ngx_atomic_uint_t {
        // SAFETY: The connection is within the array, which lives as long as the cycle.
        if at < self.count { unsafe { (*self.first.wrapping_add(at)).number } } else { 0 }
    }
}
