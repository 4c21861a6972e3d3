//! Command lines: what a shell ignores goes.

/// Quotes, backslashes and carets go; white space, commas and semicolons become one space, and none before `/` or `(`;
/// letters become lower case.
pub(super) fn command_line(input: &[u8], out: &mut Vec<u8>) -> bool {
    let plain = |byte: u8| {
        !byte.is_ascii_uppercase()
            && !matches!(byte, b'"' | b'\'' | b'\\' | b'^' | b' ' | b',' | b';' | b'\t' | b'\r' | b'\n')
    };
    let Some(first) = input.iter().position(|&byte| !plain(byte)) else { return false };
    super::begin(input, first, out);
    let mut space = false;
    for &byte in super::from(input, first) {
        match byte {
            b'"' | b'\'' | b'\\' | b'^' => {}
            b' ' | b',' | b';' | b'\t' | b'\r' | b'\n' => {
                if !space {
                    out.push(b' ');
                }
                space = true;
            }
            b'/' | b'(' => {
                if space {
                    out.pop();
                }
                space = false;
                out.push(byte);
            }
            _ => {
                out.push(byte.to_ascii_lowercase());
                space = false;
            }
        }
    }
    true
}
