//! A number for how something is laid out in shared memory, so that programs of different builds do not misread each
//! other: two builds of one version number may differ in a field.
//!
//! The compiler computes it, from names: of each struct its name, size and alignment, of each field its name, its place
//! and the fingerprint of its type. What else both sides have to agree on (numbers of cells, versions of a protocol) is
//! added by whoever knows it.

use std::fmt;
use std::sync::atomic;

/// The fingerprint of a layout. The same in every build of the same sources; how fast a build is makes no difference.
///
/// ```
/// use shm_core::Fingerprint;
///
/// let one = Fingerprint::new("weather").number(3);
/// assert_ne!(one, Fingerprint::new("weather").number(4));
/// assert_ne!(one, Fingerprint::new("whether").number(3));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(u64);

/// Types in shared memory whose layout has a fingerprint: see [`fixed_layout!`](crate::fixed_layout).
pub trait FixedLayout {
    /// Of the type and all that is in it.
    const FINGERPRINT: Fingerprint;
}

impl Fingerprint {
    /// Of a thing that has a name and nothing else.
    pub const fn new(name: &str) -> Self {
        Self(0xcbf2_9ce4_8422_2325).text(name)
    }

    /// Of a struct, before its fields.
    pub const fn of_struct<T>(name: &str) -> Self {
        Self::new(name).number(size_of::<T>() as u64).number(align_of::<T>() as u64)
    }

    /// With a field of that name at that offset; `_field` is there for its type.
    pub const fn field<T, F: FixedLayout>(self, name: &str, offset: usize, _field: fn(&T) -> &F) -> Self {
        self.text(name).number(offset as u64).and::<F>()
    }

    /// With something of type `T` in it.
    pub const fn and<T: FixedLayout>(self) -> Self {
        self.number(T::FINGERPRINT.0)
    }

    /// With a number that both sides have to agree on.
    pub const fn number(self, number: u64) -> Self {
        let bytes = number.to_le_bytes();
        let (mut result, mut at) = (self, 0);
        while at < bytes.len() {
            result = result.byte(bytes[at]);
            at += 1;
        }
        result
    }

    /// With a text that both sides have to agree on.
    pub const fn text(self, text: &str) -> Self {
        let (mut result, mut at) = (self.number(text.len() as u64), 0);
        while at < text.len() {
            result = result.byte(text.as_bytes()[at]);
            at += 1;
        }
        result
    }

    /// FNV-1a.
    const fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u64).wrapping_mul(0x100_0000_01b3))
    }

    /// As it stands in a header.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// What a header says.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Gives a `repr(C)` struct its fingerprint. All fields are listed: one that is missing is an error of the compiler.
///
/// ```
/// use std::sync::atomic::{AtomicU32, AtomicU64};
/// use shm_core::{FixedLayout, fixed_layout};
///
/// #[repr(C)]
/// struct Weather {
///     temperature: AtomicU64,
///     wind: AtomicU32,
/// }
/// fixed_layout!(Weather { temperature, wind });
///
/// let before = {
///     #[repr(C)]
///     struct Weather {
///         wind: AtomicU32,
///         temperature: AtomicU64,
///     }
///     fixed_layout!(Weather { wind, temperature });
///     Weather::FINGERPRINT
/// };
/// assert_ne!(before, Weather::FINGERPRINT);
/// ```
#[macro_export]
macro_rules! fixed_layout {
    ($name:ident { $($field:tt),+ $(,)? }) => {
        impl $crate::FixedLayout for $name {
            const FINGERPRINT: $crate::Fingerprint = {
                let _complete: fn(&$name) = |all| {
                    let $name { $($field: _),+ } = all;
                };
                $crate::Fingerprint::of_struct::<$name>(stringify!($name))
                    $(.field(stringify!($field), std::mem::offset_of!($name, $field), |all: &$name| &all.$field))+
            };
        }
    };
}

impl FixedLayout for atomic::AtomicU8 {
    const FINGERPRINT: Fingerprint = Fingerprint::of_struct::<Self>("AtomicU8");
}

impl FixedLayout for atomic::AtomicU32 {
    const FINGERPRINT: Fingerprint = Fingerprint::of_struct::<Self>("AtomicU32");
}

impl FixedLayout for atomic::AtomicU64 {
    const FINGERPRINT: Fingerprint = Fingerprint::of_struct::<Self>("AtomicU64");
}

impl FixedLayout for u8 {
    const FINGERPRINT: Fingerprint = Fingerprint::of_struct::<Self>("u8");
}

impl FixedLayout for u64 {
    const FINGERPRINT: Fingerprint = Fingerprint::of_struct::<Self>("u64");
}

impl<T: FixedLayout, const N: usize> FixedLayout for [T; N] {
    const FINGERPRINT: Fingerprint = Fingerprint::of_struct::<Self>("array").and::<T>().number(N as u64);
}

#[cfg(not(loom))]
impl<T: FixedLayout> FixedLayout for crate::sync::UnsafeCell<T> {
    const FINGERPRINT: Fingerprint = Fingerprint::of_struct::<Self>("UnsafeCell").and::<T>();
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, AtomicU64};

    use super::{Fingerprint, FixedLayout};

    /// The fingerprint of a struct of the same name with other fields.
    macro_rules! of {
        ($($field:ident: $type:ty),+) => {{
            #[repr(C)]
            struct Line { $($field: $type),+ }
            crate::fixed_layout!(Line { $($field),+ });
            Line::FINGERPRINT
        }};
    }

    #[test]
    fn every_change_of_a_struct_changes_its_fingerprint() {
        let line = of!(state: AtomicU32, pid: AtomicU32, since: AtomicU64);
        assert_eq!(line, of!(state: AtomicU32, pid: AtomicU32, since: AtomicU64));
        let others = [
            of!(pid: AtomicU32, state: AtomicU32, since: AtomicU64),
            of!(state: AtomicU32, pid: AtomicU32, until: AtomicU64),
            of!(state: AtomicU32, pid: AtomicU32, since: [AtomicU32; 2]),
            of!(state: AtomicU64, since: AtomicU64),
            of!(state: AtomicU32, pid: AtomicU32, since: AtomicU64, more: AtomicU64),
        ];
        others.into_iter().for_each(|other| assert_ne!(line, other));
    }

    #[test]
    fn what_is_inside_counts() {
        #[repr(C)]
        struct Inner(AtomicU32, AtomicU32);
        crate::fixed_layout!(Inner { 0, 1 });
        let with_inner = of!(inner: Inner);
        let other = {
            #[repr(C)]
            struct Inner([AtomicU32; 2]);
            crate::fixed_layout!(Inner { 0 });
            of!(inner: Inner)
        };
        assert_ne!(with_inner, other);
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(Fingerprint::new("ab").text("c"), Fingerprint::new("a").text("bc"));
        assert_ne!(Fingerprint::new("a").number(1).number(2), Fingerprint::new("a").number(2).number(1));
    }
}
