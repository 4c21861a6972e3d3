//! The verdict on HTML: a tag, an attribute or a scheme that runs script.

use super::html5::{Context, Kind, Tokenizer};
use super::tables::events;

/// Tries the value in every context it may be pasted into.
pub(super) fn detect(input: &[u8]) -> bool {
    let contexts = [
        Context::Data,
        Context::Unquoted,
        Context::Quoted(b'\''),
        Context::Quoted(b'"'),
        Context::Quoted(b'`'),
    ];
    contexts.into_iter().any(|context| runs_script(input, context))
}

/// What an attribute's value can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attribute {
    Harmless,
    Dangerous,
    Url,
    Style,
    /// Its value is the name of an attribute.
    Indirect,
}

fn runs_script(input: &[u8], context: Context) -> bool {
    let mut tokenizer = Tokenizer::new(input, context);
    let mut attribute = Attribute::Harmless;
    while let Some(token) = tokenizer.next() {
        let text = input.get(token.start..token.end).unwrap_or_default();
        let before = std::mem::replace(&mut attribute, Attribute::Harmless);
        let found = match token.kind {
            Kind::Doctype => true,
            Kind::TagNameOpen => is_dangerous_tag(text),
            Kind::AttrName => {
                attribute = attribute_of(input, token.start, token.end);
                false
            }
            Kind::AttrValue => match before {
                Attribute::Harmless => false,
                Attribute::Dangerous | Attribute::Style => true,
                Attribute::Url => is_dangerous_url(text),
                Attribute::Indirect => attribute_of(input, token.start, token.end) != Attribute::Harmless,
            },
            Kind::TagComment => is_dangerous_comment(text),
            Kind::DataText | Kind::TagNameClose | Kind::TagNameSelfClose | Kind::TagClose => false,
        };
        if found {
            return true;
        }
    }
    false
}

/// IE ends tags with a backtick, and reads conditional comments, `<?import` and entities.
fn is_dangerous_comment(text: &[u8]) -> bool {
    memchr::memchr(b'`', text).is_some()
        || (text.len() > 3 && (starts_with(text, b"[IF") || starts_with(text, b"XML")))
        || text.get(..6).is_some_and(|start| is_name(b"IMPORT", start) || is_name(b"ENTITY", start))
}

fn is_dangerous_tag(name: &[u8]) -> bool {
    name.len() >= 3
        && (TAGS.iter().any(|tag| is_name(tag, name))
            || starts_with(name, b"SVG")
            || starts_with(name, b"XSL"))
}

fn attribute_of(input: &[u8], start: usize, end: usize) -> Attribute {
    let name = input.get(start..end).unwrap_or_default();
    if name.len() < 2 {
        return Attribute::Harmless;
    }
    if let Some(first) = name.get(..5) {
        if starts_with(name, b"ON") && is_event(input.get(start + 2..).unwrap_or_default()) {
            return Attribute::Dangerous;
        }
        if is_name(b"XMLNS", first) || is_name(b"XLINK", first) {
            return Attribute::Dangerous;
        }
    }
    ATTRIBUTES
        .iter()
        .find(|(known, _)| is_name(known, name))
        .map_or(Attribute::Harmless, |&(_, attribute)| attribute)
}

/// Whether an event's name stands here; what follows it does not count, NUL bytes in it count as letters.
fn is_event(rest: &[u8]) -> bool {
    let first = rest.iter().copied().find(|&byte| byte != 0).unwrap_or(0);
    events(first).iter().any(|event| rest.get(..event.len()).is_some_and(|start| is_name(event, start)))
}

/// Compares without case, NUL bytes left out.
fn is_name(upper: &[u8], text: &[u8]) -> bool {
    text.iter().filter(|&&byte| byte != 0).map(u8::to_ascii_uppercase).eq(upper.iter().copied())
}

fn starts_with(text: &[u8], upper: &[u8]) -> bool {
    text.get(..upper.len()).is_some_and(|start| start.eq_ignore_ascii_case(upper))
}

fn is_dangerous_url(value: &[u8]) -> bool {
    // Opera takes UTF-8 white space, and EUC-JP ignores some high bytes.
    let start = value.iter().position(|byte| matches!(byte, 33..=126)).unwrap_or(value.len());
    let value = value.get(start..).unwrap_or_default();
    SCHEMES.iter().any(|scheme| starts_with_encoded(scheme, value))
}

/// Whether a value, its character references decoded, starts with the text; leading control characters, NUL bytes and
/// line feeds do not count.
fn starts_with_encoded(upper: &[u8], mut value: &[u8]) -> bool {
    let mut wanted = upper.iter();
    let mut next = wanted.next();
    let mut leading = true;
    while let Some(&letter) = next {
        if value.is_empty() {
            return false;
        }
        let (code, used) = decode_char(value);
        value = value.get(used..).unwrap_or_default();
        if (leading && code <= 32) || code == 0 || code == 10 {
            leading &= code <= 32;
            continue;
        }
        leading = false;
        // Only the low byte counts, as where the code is kept in a `char`.
        let folded = if matches!(code, 0x61..=0x7a) { code - 0x20 } else { code };
        if folded.to_le_bytes()[0] != letter {
            return false;
        }
        next = wanted.next();
    }
    true
}

/// The character at the start and how many bytes it takes. What is no reference is an ampersand.
fn decode_char(value: &[u8]) -> (u32, usize) {
    let first = value.first().copied().unwrap_or(0);
    if first != b'&' || value.get(1) != Some(&b'#') {
        return (u32::from(first), 1);
    }
    let (digits, radix) = match value.get(2) {
        Some(b'x' | b'X') => (3, 16),
        _ => (2, 10),
    };
    let mut code = 0u32;
    let mut end = digits;
    while let Some(digit) = value.get(end).and_then(|&byte| char::from(byte).to_digit(radix)) {
        code = code * radix + digit;
        if code > 0x0010_00ff {
            return (u32::from(b'&'), 1);
        }
        end += 1;
    }
    if end == digits {
        return (u32::from(b'&'), 1);
    }
    (code, end + usize::from(value.get(end) == Some(&b';')))
}

/// Schemes that run script; `JAVA` is also `JAVASCRIPT`.
const SCHEMES: [&[u8]; 4] = [b"DATA", b"VIEW-SOURCE", b"JAVA", b"VBSCRIPT"];

const TAGS: [&[u8]; 20] = [
    b"APPLET",
    b"BASE",
    b"COMMENT",
    b"EMBED",
    b"FRAME",
    b"FRAMESET",
    b"HANDLER",
    b"IFRAME",
    b"IMPORT",
    b"ISINDEX",
    b"LINK",
    b"LISTENER",
    b"META",
    b"NOSCRIPT",
    b"OBJECT",
    b"SCRIPT",
    b"STYLE",
    b"VMLFRAME",
    b"XML",
    b"XSS",
];

const ATTRIBUTES: [(&[u8], Attribute); 20] = [
    (b"ACTION", Attribute::Url),
    (b"ATTRIBUTENAME", Attribute::Indirect),
    (b"BY", Attribute::Url),
    (b"BACKGROUND", Attribute::Url),
    (b"DATAFORMATAS", Attribute::Dangerous),
    (b"DATASRC", Attribute::Dangerous),
    (b"DYNSRC", Attribute::Url),
    (b"FILTER", Attribute::Style),
    (b"FORMACTION", Attribute::Url),
    (b"FOLDER", Attribute::Url),
    (b"FROM", Attribute::Url),
    (b"HANDLER", Attribute::Url),
    (b"HREF", Attribute::Url),
    (b"LOWSRC", Attribute::Url),
    (b"POSTER", Attribute::Url),
    (b"SRC", Attribute::Url),
    (b"STYLE", Attribute::Style),
    (b"TO", Attribute::Url),
    (b"VALUES", Attribute::Url),
    (b"XLINK:HREF", Attribute::Url),
];
