//! Reading objects without believing the message: memory only in proportion to the bytes that are there.

use bincode::BorrowDecode;
use bincode::error::DecodeError;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};

use super::CODEC;

/// Memory that elements without a byte in the message may take, at one byte or more each. Nothing else bounds their
/// number, which may be that of another type: a thousand times what a program may want, and done in an instant.
const UNSENT_BYTES: usize = 16 << 20;

/// Half the stack of a thread of the standard library: each level of a nested value may be as short as one byte.
const STACK_BYTES: usize = 1 << 20;

pub(crate) type Decoded<T> = std::result::Result<T, DecodeError>;

/// The value whose encoding is all of `bytes`.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Decoded<T> {
    let mut decoder = Decoder::new(bytes);
    let value = T::deserialize(&mut decoder)?;
    match decoder.rest.len() {
        0 => Ok(value),
        left => Err(DecodeError::custom(format!("{left} bytes are left over"))),
    }
}

/// Reads what bincode has written. bincode's own decoder believes the lengths in the message and allocates for them;
/// this one gives memory in proportion to the bytes that are there, whatever they say.
struct Decoder<'de> {
    rest: &'de [u8],
    /// Bytes of `rest` that are spoken for: one for each element that is still to come and has memory already.
    owed: usize,
    /// What is left of [`UNSENT_BYTES`].
    unsent: usize,
    /// Where the stack was at the beginning.
    stack: usize,
}

impl<'de> Decoder<'de> {
    fn new(bytes: &'de [u8]) -> Self {
        Self { rest: bytes, owed: 0, unsent: UNSENT_BYTES, stack: stack_position() }
    }

    /// The next plain value; strings and bytes are those of the message, without a copy.
    #[inline]
    fn take<P: BorrowDecode<'de, ()>>(&mut self) -> Decoded<P> {
        let (value, used) = bincode::borrow_decode_from_slice(self.rest, CODEC)?;
        self.rest = &self.rest[used..];
        Ok(value)
    }

    /// The elements of a sequence or map, whose number is next in the message.
    fn elements(&mut self) -> Decoded<Elements<'_, 'de>> {
        self.check_stack()?;
        let claimed: u64 = self.take()?;
        let bytes = self.rest.len();
        let left = usize::try_from(claimed).ok().filter(|&left| left <= bytes + self.unsent);
        let left = left.ok_or_else(|| {
            DecodeError::custom(format!("a length of {claimed} where {bytes} bytes are left"))
        })?;
        let owed = left.min(bytes.saturating_sub(self.owed));
        self.owed += owed;
        Ok(Elements { decoder: self, left, owed, begun_at: 0 })
    }

    /// Accounts for an element of `size` bytes in memory that began when `begun_at` bytes were left.
    #[inline]
    fn charge(&mut self, begun_at: usize, size: usize) -> Decoded<()> {
        if self.rest.len() == begun_at {
            let unsent = self.unsent.checked_sub(size.max(1));
            self.unsent =
                unsent.ok_or_else(|| DecodeError::custom("too many elements that take no bytes"))?;
        }
        Ok(())
    }

    /// Every type that can contain itself comes here at each level.
    #[inline]
    fn check_stack(&self) -> Decoded<()> {
        if stack_position().abs_diff(self.stack) > STACK_BYTES {
            return Err(DecodeError::custom(format!(
                "nested so deeply that it takes {STACK_BYTES} bytes of stack"
            )));
        }
        Ok(())
    }
}

#[inline]
fn stack_position() -> usize {
    let here = 0u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

macro_rules! plain {
    ($($deserialize:ident $visit:ident)*) => {$(
        #[inline]
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
            visitor.$visit(self.take()?)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = DecodeError;

    plain! {
        deserialize_bool visit_bool
        deserialize_i8 visit_i8
        deserialize_i16 visit_i16
        deserialize_i32 visit_i32
        deserialize_i64 visit_i64
        deserialize_i128 visit_i128
        deserialize_u8 visit_u8
        deserialize_u16 visit_u16
        deserialize_u32 visit_u32
        deserialize_u64 visit_u64
        deserialize_u128 visit_u128
        deserialize_f32 visit_f32
        deserialize_f64 visit_f64
        deserialize_char visit_char
        deserialize_str visit_borrowed_str
        deserialize_bytes visit_borrowed_bytes
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        visitor.visit_string(self.take::<&str>()?.to_owned())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        visitor.visit_byte_buf(self.take::<&[u8]>()?.to_owned())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        self.check_stack()?;
        match self.take::<u8>()? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self),
            other => Err(DecodeError::custom(format!("{other} where an option has 0 or 1"))),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Decoded<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Decoded<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        let owed = self.owed;
        let value = visitor.visit_seq(self.elements()?)?;
        self.owed = owed;
        Ok(value)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        let owed = self.owed;
        let value = visitor.visit_map(self.elements()?)?;
        self.owed = owed;
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Decoded<V::Value> {
        visitor.visit_seq(Fields { decoder: self, left: len })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Decoded<V::Value> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Decoded<V::Value> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Decoded<V::Value> {
        self.check_stack()?;
        visitor.visit_enum(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Decoded<V::Value> {
        Err(DecodeError::custom("the type asks what comes next, which the message does not say"))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        self.deserialize_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Elements whose number the type knows.
struct Fields<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Fields<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Decoded<Option<S::Value>> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// Elements whose number comes from the message.
struct Elements<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
    /// This sequence's part of the decoder's.
    owed: usize,
    /// Bytes that were left when the last element began.
    begun_at: usize,
}

impl Elements<'_, '_> {
    #[inline]
    fn begin(&mut self) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        self.begun_at = self.decoder.rest.len();
        if let Some(owed) = self.owed.checked_sub(1) {
            self.owed = owed;
            self.decoder.owed -= 1;
        }
        true
    }
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Decoded<Option<S::Value>> {
        if !self.begin() {
            return Ok(None);
        }
        let value = seed.deserialize(&mut *self.decoder)?;
        self.decoder.charge(self.begun_at, size_of::<S::Value>())?;
        Ok(Some(value))
    }

    /// Visitors allocate for this many: no more than can come.
    fn size_hint(&self) -> Option<usize> {
        Some(self.owed)
    }
}

impl<'de> MapAccess<'de> for Elements<'_, 'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Decoded<Option<K::Value>> {
        if !self.begin() {
            return Ok(None);
        }
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Decoded<S::Value> {
        let value = seed.deserialize(&mut *self.decoder)?;
        self.decoder.charge(self.begun_at, size_of::<S::Value>())?;
        Ok(value)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.owed)
    }
}

impl<'de> EnumAccess<'de> for &mut Decoder<'de> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Decoded<(S::Value, Self)> {
        let variant: u32 = self.take()?;
        let value = seed.deserialize(IntoDeserializer::<DecodeError>::into_deserializer(variant))?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Decoder<'de> {
    type Error = DecodeError;

    fn unit_variant(self) -> Decoded<()> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Decoded<S::Value> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Decoded<V::Value> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Decoded<V::Value> {
        self.deserialize_tuple(fields.len(), visitor)
    }
}
