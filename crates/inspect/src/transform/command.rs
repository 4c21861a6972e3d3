//! Command lines: what a shell ignores goes.

/// Quotes, backslashes and carets go; white space, commas and semicolons become one space, and none before `/` or `(`;
/// letters become lower case.
pub(super) fn command_line(input: &[u8], out: &mut Vec<u8>) -> bool {
    let changes = |byte: u8| byte.is_ascii_uppercase() || matches!(kind(byte), Kind::Ignored | Kind::Space);
    let Some(first) = input.iter().position(|&byte| changes(byte)) else { return false };
    super::begin(input, first, out);
    let start = out.len();
    out.resize(input.len(), 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let (mut end, mut space) = (0, false);
    for &byte in super::from(input, first) {
        let written = match kind(byte) {
            Kind::Ignored => continue,
            Kind::Space if space => continue,
            Kind::Space => b' ',
            Kind::Glued => {
                end -= usize::from(space);
                byte
            }
            Kind::Other => byte.to_ascii_lowercase(),
        };
        space = written == b' ';
        if let Some(place) = room.get_mut(end) {
            *place = written;
        }
        end += 1;
    }
    out.truncate(start + end);
    true
}

/// What a shell makes of a byte.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Ignored,
    Space,
    /// White space before it means nothing.
    Glued,
    Other,
}

#[inline]
fn kind(byte: u8) -> Kind {
    KINDS.get(usize::from(byte)).copied().unwrap_or(Kind::Other)
}

static KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Other; 256];
    let mut byte = 0u8;
    loop {
        let kind = match byte {
            b'"' | b'\'' | b'\\' | b'^' => Kind::Ignored,
            b' ' | b',' | b';' | b'\t' | b'\r' | b'\n' => Kind::Space,
            b'/' | b'(' => Kind::Glued,
            _ => Kind::Other,
        };
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler; every byte is an index")]
        {
            kinds[byte as usize] = kind;
        }
        if byte == u8::MAX {
            break kinds;
        }
        byte += 1;
    }
};
