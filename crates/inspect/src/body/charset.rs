//! Charsets of bodies: to UTF-8 where that is exact, else an error.
//!
//! An application that decodes UTF-7 or EBCDIC sees another text than one that does not, and so does whoever inspects
//! it. What shares its ASCII part with UTF-8 holds no such surprise.

use std::borrow::Cow;

/// A charset that can be read exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// UTF-8 and its subset US-ASCII.
    Utf8,
    /// ISO-8859-1.
    Latin1,
    /// ISO-8859-15.
    Latin9,
    /// Windows-1252.
    Windows1252,
    /// UTF-16 whose byte order mark tells the order.
    Utf16,
    /// UTF-16, most significant byte first.
    Utf16Be,
    /// UTF-16, least significant byte first.
    Utf16Le,
    /// UTF-32, most significant byte first; only where a body shows it, as no application needs its name.
    Utf32Be,
    /// UTF-32, least significant byte first.
    Utf32Le,
}

impl Charset {
    /// The charset of this name, in any case.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Some(match name.trim_ascii().to_ascii_lowercase().as_slice() {
            b"utf-8" | b"utf8" | b"us-ascii" | b"ascii" => Self::Utf8,
            b"iso-8859-1" | b"iso8859-1" | b"latin1" => Self::Latin1,
            b"iso-8859-15" => Self::Latin9,
            b"windows-1252" | b"cp1252" => Self::Windows1252,
            b"utf-16" => Self::Utf16,
            b"utf-16be" => Self::Utf16Be,
            b"utf-16le" => Self::Utf16Le,
            _ => return None,
        })
    }

    /// Whether ASCII text has the same bytes in it.
    pub fn extends_ascii(self) -> bool {
        use Charset as C;
        !matches!(self, C::Utf16 | C::Utf16Be | C::Utf16Le | C::Utf32Be | C::Utf32Le)
    }
}

/// The `charset` parameter of a media type; `None` when there is none.
///
/// # Errors
/// The parameter is there twice, in a form that parsers read differently, or names a charset that cannot be read.
pub fn of_media_type(media_type: &[u8]) -> Result<Option<Charset>, &'static str> {
    let lower = media_type.to_ascii_lowercase();
    let mut values = memchr::memmem::find_iter(&lower, b"charset").filter_map(|at| {
        let is_own = at.checked_sub(1).and_then(|before| lower.get(before)).is_none_or(|b| !is_name(*b));
        let rest = lower.get(at + b"charset".len()..).unwrap_or_default();
        // Wherever it stands, quoted or not: some application finds it there.
        let value = rest.trim_ascii_start();
        let is_parameter = matches!(value.first(), Some(b'=' | b'*'));
        (is_own && is_parameter).then_some(value)
    });
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("the charset is given twice");
    }
    let Some(value) = value.strip_prefix(b"=") else { return Err("an extended charset parameter") };
    let value = value.trim_ascii_start();
    let value = match value.strip_prefix(b"\"") {
        Some(quoted) => quoted.split(|&byte| byte == b'"').next().unwrap_or_default(),
        None => value.split(|&byte| byte == b';' || byte == b',').next().unwrap_or_default(),
    };
    Charset::from_name(value).map(Some).ok_or("a charset that is not read")
}

/// The text in UTF-8; what is UTF-8 stays as it is, valid or not, for the parsers to judge.
///
/// # Errors
/// It is not valid in its charset; with what could be read of it.
pub fn decode(text: &[u8], charset: Charset) -> Result<Cow<'_, [u8]>, (Vec<u8>, Invalid)> {
    match charset {
        Charset::Utf8 => Ok(Cow::Borrowed(text)),
        _ if charset.extends_ascii() && text.is_ascii() => Ok(Cow::Borrowed(text)),
        Charset::Latin1 => Ok(single_bytes(text, char::from)),
        Charset::Latin9 => Ok(single_bytes(text, latin9)),
        Charset::Windows1252 => Ok(single_bytes(text, windows1252)),
        Charset::Utf16 => match text {
            [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
            [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
            _ => Err((Vec::new(), Invalid::NoByteOrder)),
        },
        Charset::Utf16Be => utf16(text.strip_prefix(&[0xfe, 0xff]).unwrap_or(text), u16::from_be_bytes),
        Charset::Utf16Le => utf16(text.strip_prefix(&[0xff, 0xfe]).unwrap_or(text), u16::from_le_bytes),
        Charset::Utf32Be => utf32(text.strip_prefix(&[0, 0, 0xfe, 0xff]).unwrap_or(text), u32::from_be_bytes),
        Charset::Utf32Le => utf32(text.strip_prefix(&[0xff, 0xfe, 0, 0]).unwrap_or(text), u32::from_le_bytes),
    }
}

/// Why a text is not valid in its charset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// UTF-16 that does not say its byte order: readers differ in what they take it for.
    NoByteOrder,
    /// Half a surrogate pair.
    Surrogate,
    /// A number beyond those of characters.
    NoCharacter,
    /// It ends within a character.
    Cut,
}

impl Invalid {
    /// As a reason for refusing the body.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoByteOrder => "UTF-16 without a byte order mark",
            Self::Surrogate => "UTF-16 with half a surrogate pair",
            Self::NoCharacter => "UTF-32 with numbers that are no characters",
            Self::Cut => "UTF-16 or UTF-32 that ends within a character",
        }
    }
}

/// UTF-16 or UTF-32 as a text that begins with ASCII shows it, and whether by its byte order mark rather than by where its
/// zeros are (RFC 4627 section 3). Many readers of JSON detect them so, whatever the media type says.
pub fn of_wide_text(text: &[u8]) -> Option<(Charset, bool)> {
    Some(match *text {
        [0, 0, 0xfe, 0xff, ..] => (Charset::Utf32Be, true),
        [0xff, 0xfe, 0, 0, ..] => (Charset::Utf32Le, true),
        [0xfe, 0xff, ..] => (Charset::Utf16Be, true),
        [0xff, 0xfe, ..] => (Charset::Utf16Le, true),
        [0, 0, 0, 1..=u8::MAX, ..] => (Charset::Utf32Be, false),
        [1..=u8::MAX, 0, 0, 0, ..] => (Charset::Utf32Le, false),
        [0, 1..=u8::MAX, ..] => (Charset::Utf16Be, false),
        [1..=u8::MAX, 0, ..] => (Charset::Utf16Le, false),
        _ => return None,
    })
}

/// The same for a text that looks like JSON: an object or an array, after white space. Pictures and programs begin with
/// zeros, too.
pub fn of_wide_json(text: &[u8]) -> Option<Charset> {
    let (charset, marked) = of_wide_text(text)?;
    let (width, place) = match charset {
        Charset::Utf32Be => (4, 3),
        Charset::Utf32Le => (4, 0),
        Charset::Utf16Be => (2, 1),
        _ => (2, 0),
    };
    let ascii = |unit: &[u8]| {
        let is_ascii = unit.iter().enumerate().all(|(at, &byte)| at == place || byte == 0);
        unit.get(place).copied().filter(|_| is_ascii)
    };
    let mut units = text.chunks_exact(width).skip(usize::from(marked)).map(ascii);
    let first = units.find(|unit| unit.is_none_or(|byte| !byte.is_ascii_whitespace()))?;
    matches!(first, Some(b'{' | b'[')).then_some(charset)
}

/// The charset that an XML document names in its declaration, or that its byte order mark shows (XML 1.0 appendix F).
pub fn of_xml(body: &[u8]) -> Option<Charset> {
    if body.starts_with(&[0xfe, 0xff]) || body.starts_with(&[0xff, 0xfe]) {
        return Some(Charset::Utf16);
    }
    let declaration = body.strip_prefix(b"<?xml")?;
    let declaration = declaration.get(..memchr::memchr(b'>', declaration)?)?;
    let at = memchr::memmem::find(declaration, b"encoding")? + b"encoding".len();
    let value = declaration.get(at..)?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let (quote, value) = value.split_first()?;
    Charset::from_name(value.split(|byte| byte == quote).next()?).filter(|charset| charset.extends_ascii())
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn single_bytes(text: &[u8], character: impl Fn(u8) -> char) -> Cow<'_, [u8]> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 8);
    for &byte in text {
        out.extend_from_slice(character(byte).encode_utf8(&mut [0; 4]).as_bytes());
    }
    Cow::Owned(out)
}

fn latin9(byte: u8) -> char {
    match byte {
        0xa4 => '€',
        0xa6 => 'Š',
        0xa8 => 'š',
        0xb4 => 'Ž',
        0xb8 => 'ž',
        0xbc => 'Œ',
        0xbd => 'œ',
        0xbe => 'Ÿ',
        _ => char::from(byte),
    }
}

/// The five bytes that have no character are control characters, as in the Encoding Standard.
fn windows1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
        '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    let high = byte.checked_sub(0x80).and_then(|index| HIGH.get(usize::from(index)));
    high.copied().unwrap_or_else(|| char::from(byte))
}

fn utf16(text: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Cow<'_, [u8]>, (Vec<u8>, Invalid)> {
    let (pairs, rest) = text.as_chunks::<2>();
    let mut out = Vec::with_capacity(text.len());
    let mut fault = None;
    for character in char::decode_utf16(pairs.iter().map(|&pair| unit(pair))) {
        fault = fault.or(character.is_err().then_some(Invalid::Surrogate));
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    match fault.or((!rest.is_empty()).then_some(Invalid::Cut)) {
        Some(fault) => Err((out, fault)),
        None => Ok(Cow::Owned(out)),
    }
}

fn utf32(text: &[u8], unit: fn([u8; 4]) -> u32) -> Result<Cow<'_, [u8]>, (Vec<u8>, Invalid)> {
    let (units, rest) = text.as_chunks::<4>();
    let mut out = Vec::with_capacity(text.len() / 2);
    let mut fault = None;
    for &bytes in units {
        let character = char::from_u32(unit(bytes));
        fault = fault.or(character.is_none().then_some(Invalid::NoCharacter));
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    match fault.or((!rest.is_empty()).then_some(Invalid::Cut)) {
        Some(fault) => Err((out, fault)),
        None => Ok(Cow::Owned(out)),
    }
}
