//! The operations that reductions combine elements with.
//!
//! # Safety
//!
//! Trusted for saying that [`Located`] of eight-byte numbers is plain data without padding.
#![allow(unsafe_code)]

use std::ops::{Add, BitAnd as And, BitOr as Or, BitXor as Xor, Mul};

use bytemuck::{Pod, Zeroable};

/// How two ranks' elements become one. Implemented by [`Sum`] and its siblings, and by every function
/// `Fn(T, T) -> T`.
///
/// Reductions combine in the order of the ranks, `((r0 op r1) op r2) op ...`, whatever the timing: the operation
/// need not be commutative, and floating-point results are the same to the bit in every run and on every rank. Which ranks
/// call the operation is left open: one may combine for all. If it panics and the program catches that, ranks that wait for what it
/// was to combine get [`Error::CollectiveMismatch`](crate::Error::CollectiveMismatch), and collectives of that world are over for them.
///
/// # MPI
/// `MPI_Op`; a function is `MPI_Op_create`.
pub trait Reduction<T> {
    /// Replaces each `accumulated[i]` by `accumulated[i] op next[i]`. Both have the same length.
    fn combine(&self, accumulated: &mut [T], next: &[T]);

    /// Replaces each `result[i]` by `first[i] op next[i]`: what [`Reduction::combine`] does to a copy of `first`, with
    /// less copying where that is possible. All have the same length.
    fn combine_into(&self, result: &mut [T], first: &[T], next: &[T])
    where
        T: Copy,
    {
        result.copy_from_slice(first);
        self.combine(result, next);
    }
}

impl<T: Copy, F: Fn(T, T) -> T> Reduction<T> for F {
    fn combine(&self, accumulated: &mut [T], next: &[T]) {
        for (left, &right) in accumulated.iter_mut().zip(next) {
            *left = self(*left, right);
        }
    }

    fn combine_into(&self, result: &mut [T], first: &[T], next: &[T]) {
        for ((result, &left), &right) in result.iter_mut().zip(first).zip(next) {
            *result = self(left, right);
        }
    }
}

macro_rules! operation {
    ($(#[$doc:meta])* $name:ident, $bound:path, $combine:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name;

        impl<T: Copy + $bound> Reduction<T> for $name {
            fn combine(&self, accumulated: &mut [T], next: &[T]) {
                Reduction::combine(&$combine, accumulated, next);
            }

            fn combine_into(&self, result: &mut [T], first: &[T], next: &[T]) {
                Reduction::combine_into(&$combine, result, first, next);
            }
        }
    };
}

operation! {
    /// The sum. Integers must not overflow.
    ///
    /// # MPI
    /// `MPI_SUM`.
    Sum, AddSelf<T>, |left: T, right: T| left + right
}
operation! {
    /// The product. Integers must not overflow.
    ///
    /// # MPI
    /// `MPI_PROD`.
    Product, MulSelf<T>, |left: T, right: T| left * right
}
operation! {
    /// The smallest. A value that compares with nothing (NaN) is kept if it is the first.
    ///
    /// # MPI
    /// `MPI_MIN`.
    Min, PartialOrd, |left: T, right: T| if right < left { right } else { left }
}
operation! {
    /// The largest. A value that compares with nothing (NaN) is kept if it is the first.
    ///
    /// # MPI
    /// `MPI_MAX`.
    Max, PartialOrd, |left: T, right: T| if right > left { right } else { left }
}
operation! {
    /// Bits set in all.
    ///
    /// # MPI
    /// `MPI_BAND`.
    BitAnd, AndSelf<T>, |left: T, right: T| left & right
}
operation! {
    /// Bits set in any.
    ///
    /// # MPI
    /// `MPI_BOR`.
    BitOr, OrSelf<T>, |left: T, right: T| left | right
}
operation! {
    /// Bits set in an odd number.
    ///
    /// # MPI
    /// `MPI_BXOR`.
    BitXor, XorSelf<T>, |left: T, right: T| left ^ right
}
operation! {
    /// Whether all are true, where anything but zero is true. Gives 1 or 0.
    ///
    /// # MPI
    /// `MPI_LAND`.
    LogicalAnd, Truth, |left: T, right: T| T::from_truth(left.is_true() && right.is_true())
}
operation! {
    /// Whether any is true, where anything but zero is true. Gives 1 or 0.
    ///
    /// # MPI
    /// `MPI_LOR`.
    LogicalOr, Truth, |left: T, right: T| T::from_truth(left.is_true() || right.is_true())
}
operation! {
    /// Whether an odd number is true, where anything but zero is true. Gives 1 or 0.
    ///
    /// # MPI
    /// `MPI_LXOR`.
    LogicalXor, Truth, |left: T, right: T| T::from_truth(left.is_true() != right.is_true())
}

/// A value and where it is, for [`MinLocation`] and [`MaxLocation`].
///
/// ```
/// use ranks::{Located, MaxLocation, Reduction};
/// let mut best = [Located { value: 2.5, index: 4 }];
/// MaxLocation.combine(&mut best, &[Located { value: 2.5, index: 1 }]);
/// assert_eq!(best[0].index, 1);
/// ```
///
/// # MPI
/// The pair types, such as `MPI_DOUBLE_INT`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
#[repr(C)]
pub struct Located<T> {
    /// What is compared.
    pub value: T,
    /// Which one it is: often a rank.
    pub index: u64,
}

macro_rules! located {
    ($($value:ty),*) => {
        $(
            const _: () = assert!(size_of::<Located<$value>>() == 16 && size_of::<$value>() == 8);
            // SAFETY: both fields may be zero.
            unsafe impl Zeroable for Located<$value> {}
            // SAFETY: repr(C) with two fields of eight bytes, so there is no padding (asserted above).
            unsafe impl Pod for Located<$value> {}
        )*
    };
}
located!(f64, i64, u64);

/// The smallest value and its place; of equal ones, the smallest index.
///
/// # MPI
/// `MPI_MINLOC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinLocation;

/// The largest value and its place; of equal ones, the smallest index.
///
/// # MPI
/// `MPI_MAXLOC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxLocation;

impl<T: Copy + PartialOrd> Reduction<Located<T>> for MinLocation {
    fn combine(&self, accumulated: &mut [Located<T>], next: &[Located<T>]) {
        let better = |left: &Located<T>, right: &Located<T>| {
            right.value < left.value || (right.value == left.value && right.index < left.index)
        };
        keep_better(accumulated, next, better);
    }
}

impl<T: Copy + PartialOrd> Reduction<Located<T>> for MaxLocation {
    fn combine(&self, accumulated: &mut [Located<T>], next: &[Located<T>]) {
        let better = |left: &Located<T>, right: &Located<T>| {
            right.value > left.value || (right.value == left.value && right.index < left.index)
        };
        keep_better(accumulated, next, better);
    }
}

fn keep_better<T: Copy>(accumulated: &mut [T], next: &[T], better: impl Fn(&T, &T) -> bool) {
    for (left, right) in accumulated.iter_mut().zip(next) {
        if better(left, right) {
            *left = *right;
        }
    }
}

macro_rules! closed {
    ($($name:ident: $operation:ident),*) => {$(
        #[doc = concat!("A type on which `", stringify!($operation), "` gives the same type again.")]
        pub trait $name<T>: Sized + $operation<Output = T> {}
        impl<T: $operation<Output = T>> $name<T> for T {}
    )*};
}
closed!(AddSelf: Add, MulSelf: Mul, AndSelf: And, OrSelf: Or, XorSelf: Xor);

/// An integer as a truth value, for the logical operations.
pub trait Truth {
    /// Whether it is not zero.
    fn is_true(&self) -> bool;
    /// 1 or 0.
    fn from_truth(truth: bool) -> Self;
}

macro_rules! truth {
    ($($integer:ty),*) => {$(
        impl Truth for $integer {
            fn is_true(&self) -> bool {
                *self != 0
            }
            fn from_truth(truth: bool) -> Self {
                <$integer>::from(truth)
            }
        }
    )*};
}
truth!(u8, u16, u32, u64, usize, u128, i8, i16, i32, i64, isize, i128);
