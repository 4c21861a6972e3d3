//! What an app puts on the pages that are written in its name: made once, when the policy is loaded.

use std::fmt::Write as _;

use data_encoding::BASE64;
use phalanx_model::limits::LOGO_BYTES_MAX;
use phalanx_policy::handling;

use super::escaped;

/// The pieces of a page that are an app's.
#[derive(Debug)]
pub(crate) struct Brand {
    pub(super) style: Box<str>,
    pub(super) header: Box<str>,
    pub(super) contact: Option<Contact>,
    /// The page's Content-Security-Policy.
    pub(crate) policy: Box<str>,
}

/// Whom to tell, around the id if that goes with it.
#[derive(Debug)]
pub(super) struct Contact {
    pub(super) before: Box<str>,
    pub(super) after: Box<str>,
    pub(super) names_id: bool,
}

impl Brand {
    /// Makes the pieces; `logo`: as [`picture`] read it.
    pub(crate) fn new(written: &handling::Brand, logo: Option<&str>) -> Self {
        let accent = written.accent.as_ref().map(|accent| format!(":root {{ --accent: {accent} }}"));
        let mut header = String::new();
        if let Some(logo) = logo {
            // The name beside it says the same; without one, a page reader has nothing to say of it.
            let _ = write!(header, "<img src=\"{logo}\" alt=\"\">");
        }
        if let Some(name) = &written.name {
            let _ = write!(header, "<span>{}</span>", escaped(name.chars()));
        }
        if !header.is_empty() {
            header = format!("<p class=\"by\">{header}</p>\n");
        }
        Self {
            policy: super::policy(accent.as_deref()).into(),
            style: accent.map(|accent| format!("<style>{accent}</style>\n")).unwrap_or_default().into(),
            header: header.into(),
            contact: written.contact.as_deref().map(Contact::new),
        }
    }
}

impl Contact {
    fn new(written: &str) -> Self {
        let shown = escaped(written.chars());
        let is_address = written.contains('@') && !written.contains([' ', '/', '?', ':']);
        let (before, after) = if is_address {
            (format!("<a href=\"mailto:{shown}?subject="), format!("\">{shown}</a>"))
        } else if written.starts_with("https://") && !written.contains(' ') {
            (format!("<a href=\"{shown}\">{shown}</a>"), String::new())
        } else {
            (shown, String::new())
        };
        Self { before: before.into(), after: after.into(), names_id: is_address }
    }
}

/// A picture as a `data:` address.
///
/// # Errors
/// A sentence that says what is wrong.
pub(crate) fn picture(name: &str, bytes: &[u8]) -> Result<String, String> {
    if bytes.len() > LOGO_BYTES_MAX {
        return Err(format!("the logo has {} bytes; {LOGO_BYTES_MAX} are possible", bytes.len()));
    }
    let (_, ending) = name.rsplit_once('.').unwrap_or_default();
    let kind = match (ending.to_ascii_lowercase().as_str(), bytes) {
        ("png", [0x89, b'P', b'N', b'G', ..]) => "image/png",
        ("jpg" | "jpeg", [0xff, 0xd8, ..]) => "image/jpeg",
        ("webp", [b'R', b'I', b'F', b'F', ..]) => "image/webp",
        // Browsers run no script of a picture.
        ("svg", _) if bytes.windows(4).any(|four| four == b"<svg") => "image/svg+xml",
        _ => return Err("the logo is no PNG, JPEG, WebP or SVG, by its ending and its content".to_owned()),
    };
    Ok(format!("data:{kind};base64,{}", BASE64.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_what_its_name_says() {
        assert!(picture("a.svg", b"<?xml?><svg/>").unwrap().starts_with("data:image/svg+xml;base64,"));
        assert!(picture("a.PNG", b"\x89PNG\r\n").unwrap().starts_with("data:image/png;"));
        for (name, bytes) in
            [("a.png", b"<svg/>".to_vec()), ("a", vec![]), ("a.svg", vec![b' '; LOGO_BYTES_MAX + 1])]
        {
            assert!(picture(name, &bytes).is_err(), "{name}");
        }
    }

    #[test]
    fn whom_to_tell_is_a_link_where_it_can_be() {
        let contact = |text: &str| {
            let contact = Contact::new(text);
            format!("{}ID{}", contact.before, contact.after)
        };
        assert_eq!(contact("a@b.example"), "<a href=\"mailto:a@b.example?subject=ID\">a@b.example</a>");
        assert_eq!(
            contact("https://b.example/?a&b"),
            "<a href=\"https://b.example/?a&#38;b\">https://b.example/?a&#38;b</a>ID"
        );
        assert_eq!(contact("javascript:x@y"), "javascript:x@yID");
        assert_eq!(contact("phone 112"), "phone 112ID");
    }
}
