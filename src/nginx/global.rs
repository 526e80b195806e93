//! Global variables of NGINX that this module reads.

/// The value of a global variable of NGINX: a number or a pointer. NGINX writes it in one store, in the same thread as
/// the reader or in a signal handler of that thread.
macro_rules! global {
    ($name:ident) => {
        // SAFETY: This is a variable of NGINX. It has a value from the start.
        unsafe { (&raw const nginx_sys::$name).read_volatile() }
    };
}
