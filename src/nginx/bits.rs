//! Bit fields of NGINX's structures, at the positions that the C compiler gives them.
//!
//! The accessors that nginx-sys generates are wrong for some versions of NGINX, and read a field bit by bit. The
//! positions in this file come from the C compiler (build/layout.rs, members.txt). To read a field takes one load; to
//! write it takes one load and one store. tools/check-layout fails if the module uses a generated accessor.

use core::marker::PhantomData;
use core::mem::offset_of;

use super::live::Live;

/// A bit field of the structure `S`: `width` bits from bit `shift` of the unit `U` (u8 to u64) at the byte `offset`.
pub struct BitField<S, U> {
    offset: usize,
    shift: u32,
    mask: U,
    of: PhantomData<fn(*mut S)>,
}

impl<S, U: Copy> Clone for BitField<S, U> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S, U: Copy> Copy for BitField<S, U> {}

macro_rules! units {
    ($($unit:ty)*) => { $(
        #[allow(dead_code)] // which units there are, the server's headers decide
        impl<S> BitField<S, $unit> {
            pub const fn new(offset: usize, shift: u32, width: u32) -> Self {
                assert!(width > 0 && shift + width <= <$unit>::BITS);
                assert!(offset + size_of::<$unit>() <= size_of::<S>() && offset % size_of::<$unit>() == 0);
                BitField { offset, shift, mask: <$unit>::MAX >> (<$unit>::BITS - width), of: PhantomData }
            }

            /// The unit of the structure that contains the field.
            #[inline(always)]
            fn unit(self, live: Live<'_, S>) -> Live<'_, $unit> {
                // SAFETY: `new` has checked that the unit is within the structure, at an aligned offset.
                unsafe { live.within(live.as_ptr().cast::<$unit>().wrapping_byte_add(self.offset)) }
            }

            /// The field's value.
            #[inline(always)]
            pub fn of(self, live: Live<'_, S>) -> $unit {
                self.unit(live).read() >> self.shift & self.mask
            }

            /// Whether the field is not zero.
            #[inline(always)]
            pub fn is_on(self, live: Live<'_, S>) -> bool {
                self.unit(live).read() & self.mask << self.shift != 0
            }

            /// Writes the field. Bits for which it has no room are lost, as in C.
            #[inline(always)]
            pub fn put(self, live: Live<'_, S>, value: $unit) {
                let unit = self.unit(live);
                unit.write(unit.read() & !(self.mask << self.shift) | self.bits(value));
            }

            /// A value, shifted to the field's position in the unit.
            #[inline(always)]
            pub const fn bits(self, value: $unit) -> $unit {
                (value & self.mask) << self.shift
            }

            /// Writes the whole unit. `bits` contains the values of fields; all other fields become zero.
            #[inline(always)]
            pub fn put_unit(self, live: Live<'_, S>, bits: $unit) {
                self.unit(live).write(bits);
            }

            /// Whether both fields are in one unit, so that `put_unit` can write them together.
            pub const fn is_beside(self, other: Self) -> bool {
                self.offset == other.offset
            }
        }
    )* };
}

units!(u8 u16 u32 u64);

/// A structure or one of its members: offset and size, by the C compiler and by the bindings.
struct Member {
    name: &'static str,
    c: (usize, usize),
    bindings: (usize, usize),
}

const fn size_of_member<S, M>(_: fn(&S) -> &M) -> usize {
    size_of::<M>()
}

include!(concat!(env!("OUT_DIR"), "/layout.rs"));

// The check at compile time. Its message explains everything, because no other place can report wrong memory accesses
// in a server.
const _: () = {
    let mut at = 0;
    while at < PLACES.len() {
        let Member { name, c, bindings } = PLACES[at];
        if c.0 != bindings.0 || c.1 != bindings.1 {
            let message = Message::new()
                .text(name)
                .text(" differs: the C compiler has it at byte ")
                .number(c.0)
                .text(" with ")
                .number(c.1)
                .text(" bytes, the bindings of nginx-sys at byte ")
                .number(bindings.0)
                .text(" with ")
                .number(bindings.1)
                .text(
                    " bytes. The module would use the wrong memory of this server, so it is not built. Let libclang \
                     and the C compiler see the same headers and flags (CC, CFLAGS, LIBCLANG_PATH, \
                     BINDGEN_EXTRA_CLANG_ARGS); if they do, this server is not supported: please report it with \
                     the output of `nginx -V`.",
                );
            panic!("{}", message.as_str());
        }
        at += 1;
    }
};

/// Text that is put together at compile time.
struct Message {
    bytes: [u8; 1024],
    len: usize,
}

impl Message {
    const fn new() -> Self {
        Message { bytes: [0; 1024], len: 0 }
    }

    const fn text(mut self, text: &str) -> Self {
        let mut at = 0;
        while at < text.len() && self.len < self.bytes.len() {
            self.bytes[self.len] = text.as_bytes()[at];
            self.len += 1;
            at += 1;
        }
        self
    }

    const fn number(self, number: usize) -> Self {
        let rest = if number >= 10 { self.number(number / 10) } else { self };
        let digit = [b'0' + (number % 10) as u8];
        match core::str::from_utf8(&digit) {
            Ok(digit) => rest.text(digit),
            Err(_) => rest,
        }
    }

    const fn as_str(&self) -> &str {
        match core::str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => "",
        }
    }
}
