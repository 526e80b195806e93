//! Functions of ours that stand in for functions of NGINX or of other modules.
//!
//! NGINX calls them with arguments that are valid for the call. A [`Call`] keeps these arguments, gives typed access to
//! them, and passes them on to the function that ours stands in for.

use core::marker::PhantomData;

use nginx_sys::{ngx_chain_t, ngx_connection_t, ngx_cycle_t, ngx_uint_t};

use super::connection::{Connection, Receive, SendChain};
use super::hook::{FnPointer, Hook, Hooks};
use super::io::ProcessEvents;
use super::live::Live;

/// A call by NGINX of a function of type `F`, with its arguments. The arguments are valid for `'a`, and until the call
/// is passed on.
pub struct Call<'a, F: Callable> {
    pub(super) arguments: F::Arguments,
    of: PhantomData<&'a F>,
}

/// The work of a function that stands in for one of type `F`.
pub trait StandIn<F: Callable> {
    /// Does the work, and passes the call on.
    fn call(call: Call<'_, F>) -> F::Return;
}

/// The type of a C function.
pub trait Callable: FnPointer {
    type Arguments: Copy;
    type Return;

    /// The function for NGINX that does the work of `S`.
    fn ours<S: StandIn<Self>>() -> Self;

    /// Calls the function.
    ///
    /// # Safety
    /// The arguments must be valid for the function.
    unsafe fn invoke(self, arguments: Self::Arguments) -> Self::Return;
}

macro_rules! callables {
    ($(($($argument:ident: $type:ident),*))*) => { $(
        impl<$($type: Copy,)* R> Callable for unsafe extern "C" fn($($type),*) -> R {
            type Arguments = ($($type,)*);
            type Return = R;

            #[inline]
            fn ours<S: StandIn<Self>>() -> Self {
                /// # Safety
                /// This function must be called in the same way as the function that it stands in for.
                unsafe extern "C" fn ours<S, $($type,)* R>($($argument: $type),*) -> R
                where
                    $($type: Copy,)*
                    S: StandIn<unsafe extern "C" fn($($type),*) -> R>,
                {
                    S::call(Call { arguments: ($($argument,)*), of: PhantomData })
                }
                ours::<S, $($type,)* R>
            }

            #[inline]
            unsafe fn invoke(self, ($($argument,)*): Self::Arguments) -> R {
                // SAFETY: as the caller says.
                unsafe { self($($argument),*) }
            }
        }
    )* };
}

callables!((a: A)(a: A, b: B)(a: A, b: B, c: C));

impl<F: Callable> Call<'_, F> {
    /// # Safety
    /// The arguments must be valid for a function of type `F` as long as the call exists.
    #[inline]
    pub(super) unsafe fn of(arguments: F::Arguments) -> Self {
        Call { arguments, of: PhantomData }
    }

    /// Calls a function that one of ours stands in for.
    #[inline]
    fn run(&self, real: Option<F>) -> Option<F::Return> {
        // SAFETY: NGINX would have called this function, with the arguments of this call.
        real.map(|real| unsafe { real.invoke(self.arguments) })
    }
}

impl<F: Callable> Hook<F> {
    /// Passes a call on to the function that ours stands in for. `None` if there is none.
    #[inline]
    pub fn pass(&self, call: Call<'_, F>) -> Option<F::Return> {
        call.run(self.real())
    }
}

impl<F: Callable, const N: usize> Hooks<F, N> {
    /// As [`Hook::pass`], for the function with this number.
    #[inline]
    pub fn pass(&self, number: usize, call: Call<'_, F>) -> Option<F::Return> {
        call.run(self.real(number))
    }
}

/// The type of a function that leaves its arguments valid: it does not close the connection, and does not move the
/// task.
pub trait Keeps: Callable {}

/// `ngx_unix_recv` and `ngx_ssl_recv` leave the connection open.
impl Keeps for Receive {}
/// `ngx_linux_sendfile_chain` and `ngx_ssl_send_chain` leave the connection open.
impl Keeps for SendChain {}

impl<F: Keeps> Hook<F> {
    /// As [`Hook::pass`]. The call can be used afterwards.
    #[inline]
    pub fn pass_kept(&self, call: &Call<'_, F>) -> Option<F::Return> {
        call.run(self.real())
    }
}

impl<F: Keeps, const N: usize> Hooks<F, N> {
    /// As [`Hook::pass_kept`], for the function with this number.
    #[inline]
    pub fn pass_kept(&self, number: usize, call: &Call<'_, F>) -> Option<F::Return> {
        call.run(self.real(number))
    }
}

/// Arguments. The first one is a connection.
pub trait OfConnection {
    fn connection(&self) -> *mut ngx_connection_t;
}

impl OfConnection for (*mut ngx_connection_t,) {
    #[inline]
    fn connection(&self) -> *mut ngx_connection_t {
        self.0
    }
}

impl<B, C> OfConnection for (*mut ngx_connection_t, B, C) {
    #[inline]
    fn connection(&self) -> *mut ngx_connection_t {
        self.0
    }
}

impl<F: Callable<Arguments: OfConnection>> Call<'_, F> {
    /// The connection for which the function is called.
    #[inline]
    pub fn connection(&self) -> Connection<'_> {
        // SAFETY: NGINX calls functions of connections with an open connection. The result is borrowed from the call,
        // which is consumed when a function is called that may close the connection.
        unsafe { Connection::new(self.arguments.connection()) }
    }
}

impl Call<'_, SendChain> {
    /// The chain of buffers that is to be sent.
    #[inline]
    pub fn chain(&self) -> Option<Live<'_, ngx_chain_t>> {
        // SAFETY: NGINX calls with null or a chain. The chain, its buffers and their file outlive the call.
        unsafe { Live::new(self.arguments.1) }
    }

    /// The value to return if nothing can be sent.
    #[inline]
    pub fn unsent(&self) -> *mut ngx_chain_t {
        self.arguments.1
    }
}

impl Call<'_, Receive> {
    /// Passes the call on as [`Hook::pass`] does, but reads no more than this many bytes.
    #[inline]
    pub fn read_at_most(self, bytes: usize, real: &Hook<Receive>) -> Option<isize> {
        let (c, buffer, size) = self.arguments;
        real.pass(Call { arguments: (c, buffer, size.min(bytes)), of: PhantomData })
    }
}

impl Call<'_, ProcessEvents> {
    /// The cycle that the event loop serves.
    #[inline]
    pub fn cycle(&self) -> *const ngx_cycle_t {
        self.arguments.0
    }

    /// The flags of the event loop: `NGX_POST_EVENTS` and so on.
    #[inline]
    pub fn flags(&self) -> ngx_uint_t {
        self.arguments.2
    }

    /// The same call with other flags.
    #[inline]
    pub fn with_flags(self, flags: ngx_uint_t) -> Self {
        let (cycle, timer, _) = self.arguments;
        Call { arguments: (cycle, timer, flags), of: PhantomData }
    }
}
