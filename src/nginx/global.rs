//! Global variables of NGINX that this module reads.

/// The value of a global variable of NGINX: a number or a pointer. NGINX writes it in one store, in the thread
/// that reads it or in a signal handler of that.
macro_rules! global {
    ($name:ident) => {
        // SAFETY: a variable of NGINX that has a value from the start.
        unsafe { (&raw const nginx_sys::$name).read_volatile() }
    };
}
