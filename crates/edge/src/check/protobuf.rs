//! The wire format of Protocol Buffers, as far as Envoy's messages need it: fields one after the other, bounded by what there is.
//!
//! Strict: what two readers could take differently (a group, a number that is too long, a length beyond the message) is malformed.

use bytes::Bytes;

/// A message is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads the fields of a message.
pub(super) struct Fields {
    rest: Bytes,
}

/// A field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Number(u64),
    /// 32 or 64 bits, which none of the fields that are read has.
    Fixed,
    Content(Bytes),
}

impl Value {
    /// The content of a string, of bytes or of a message.
    pub(super) fn content(self) -> Result<Bytes, Malformed> {
        if let Self::Content(content) = self { Ok(content) } else { Err(Malformed) }
    }

    /// A number.
    pub(super) fn number(self) -> Result<u64, Malformed> {
        if let Self::Number(number) = self { Ok(number) } else { Err(Malformed) }
    }
}

impl Fields {
    pub(super) fn of(message: Bytes) -> Self {
        Self { rest: message }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for place in 0..VARINT_BYTES_MAX {
            let byte = *self.rest.get(place).ok_or(Malformed)?;
            // The tenth byte has room for one more bit.
            if place == VARINT_BYTES_MAX - 1 && byte > 1 {
                return Err(Malformed);
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                let _ = self.rest.split_to(place + 1);
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, bytes: u64) -> Result<Bytes, Malformed> {
        let bytes = usize::try_from(bytes).map_err(|_| Malformed)?;
        if bytes > self.rest.len() {
            return Err(Malformed);
        }
        Ok(self.rest.split_to(bytes))
    }

    fn field(&mut self) -> Result<(u32, Value), Malformed> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        if number == 0 {
            return Err(Malformed);
        }
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Content(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed),
        };
        Ok((number, value))
    }
}

impl Iterator for Fields {
    type Item = Result<(u32, Value), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = Bytes::new();
        }
        Some(field)
    }
}

/// Keeps a value that may stand in a message once. Readers differ on which of two counts, or merge them.
pub(super) fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Malformed> {
    if place.replace(value).is_some() { Err(Malformed) } else { Ok(()) }
}

/// Appends a number.
pub(super) fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    put_varint(out, u64::from(field) << 3);
    put_varint(out, number);
}

/// Appends a string, bytes or a message.
pub(super) fn put_content(out: &mut Vec<u8>, field: u32, content: &[u8]) {
    put_varint(out, u64::from(field) << 3 | 2);
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or_default());
}

const VARINT_BYTES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        put_number(&mut out, 1, u64::MAX);
        put_content(&mut out, 300, b"abc");
        put_number(&mut out, 2, 0);
        let fields: Vec<_> = Fields::of(out.into()).collect::<Result<_, _>>().unwrap();
        let content = Value::Content(Bytes::from_static(b"abc"));
        assert_eq!(fields, [(1, Value::Number(u64::MAX)), (300, content), (2, Value::Number(0))]);
    }

    #[test]
    fn what_readers_could_take_differently_is_malformed() {
        for message in [
            &b"\x0a"[..],
            b"\x0a\x05abc",
            b"\x0b\x0c",
            b"\x00\x01",
            b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0dabc",
        ] {
            let last = Fields::of(Bytes::copy_from_slice(message)).last();
            assert_eq!(last, Some(Err(Malformed)), "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn every_input_ends(message: Vec<u8>) {
            let bytes = message.len();
            prop_assert!(Fields::of(message.into()).count() <= bytes);
        }
    }
}
