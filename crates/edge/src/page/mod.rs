//! The page of a reply that no upstream wrote: what happened, in the client's language, and the request's id.
//!
//! Everything is in it: it needs no script, no file and no network. The pages are made once, one for each thing that may have
//! happened in each language; what an app puts on them is made when its policy is loaded. To write one is to copy pieces of text
//! around the id. Its policy (Content-Security-Policy) admits the styles by their hashes, pictures that it carries itself, and
//! nothing else.
//!
//! INVARIANT: nothing that a client wrote is in it.

pub(crate) mod words;

pub(crate) mod brand;

use std::fmt::Write as _;
use std::sync::LazyLock;

use data_encoding::BASE64;

use crate::language::{COUNT, Language};
use brand::Brand;
use words::{CONTACT, REQUEST_ID, Says};

/// A page as pieces, in their order; `brand`: what an app puts on it.
pub(crate) fn pieces<'a>(
    says: Says,
    language: Language,
    id: &'a str,
    brand: Option<&'a Brand>,
) -> [&'a str; PIECES] {
    let Some(sheet) = SHEETS.get(says as usize * COUNT + language.index()) else { return [""; PIECES] };
    let (style, header) = brand.map_or(("", ""), |brand| (&*brand.style, &*brand.header));
    let to = match brand.and_then(|brand| brand.contact.as_ref()) {
        Some(contact) => {
            let subject = if contact.names_id { id } else { "" };
            [&*sheet.contact, &*contact.before, subject, &*contact.after, "</p>\n"]
        }
        None => [""; 5],
    };
    let [contact, before, subject, after, end] = to;
    [
        &sheet.head,
        style,
        BODY,
        header,
        &sheet.main,
        id,
        "</code></p>\n",
        contact,
        before,
        subject,
        after,
        end,
        END,
    ]
}

/// The policy of a page that no app has put anything on.
pub(crate) fn plain_policy() -> &'static str {
    &POLICY
}

/// The policy of a page with this style beside its own.
fn policy(style: Option<&str>) -> String {
    let hash = |text: &str| format!(" 'sha256-{}'", BASE64.encode(&phalanx_trust::sha256(text.as_bytes())));
    let more = style.map(hash).unwrap_or_default();
    format!(
        "default-src 'none'; style-src{}{more}; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
        hash(CSS)
    )
}

/// The pieces of a page that are known before anything happens.
struct Sheet {
    head: String,
    main: String,
    contact: String,
}

impl Sheet {
    fn new(says: Says, language: Language) -> Self {
        let (title, text) = says.words(language);
        let tag = language.tag();
        Self {
            head: format!(
                "<!doctype html>\n<html lang=\"{tag}\">\n<head>\n<meta charset=\"utf-8\">\n\
                 <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
                 <meta name=\"robots\" content=\"noindex\">\n<title>{title}</title>\n<style>{CSS}</style>\n"
            ),
            main: format!(
                "<h1>{title}</h1>\n<p>{text}</p>\n<p class=\"id\">{} <code>",
                language.pick(&REQUEST_ID)
            ),
            contact: format!("<p class=\"to\">{}: ", language.pick(&CONTACT)),
        }
    }
}

static SHEETS: LazyLock<Vec<Sheet>> = LazyLock::new(|| {
    let in_all = |says: Says| Language::all().map(move |language| Sheet::new(says, language));
    Says::ALL.into_iter().flat_map(in_all).collect()
});
static POLICY: LazyLock<String> = LazyLock::new(|| policy(None));

/// How many pieces a page has.
pub(crate) const PIECES: usize = 13;
const CSS: &str = include_str!("page.css");
const BODY: &str = "</head>\n<body>\n<main>\n";
const END: &str = "</main>\n</body>\n</html>\n";

/// Text as HTML shows it, within an element or a quoted attribute.
pub(crate) fn escaped(text: impl Iterator<Item = char>) -> String {
    let mut out = String::with_capacity(text.size_hint().0);
    for c in text {
        match c {
            '&' | '<' | '>' | '"' | '\'' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "&#{};", u32::from(c));
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_policy::handling;

    #[test]
    fn each_page_speaks_its_language_and_shows_the_id() {
        for (at, says) in Says::ALL.into_iter().enumerate() {
            assert_eq!(says as usize, at);
            for language in Language::all() {
                let page = pieces(says, language, "01ABC", None).concat();
                assert!(page.contains(&format!("<html lang=\"{}\">", language.tag())));
                assert!(page.contains(&format!("<h1>{}</h1>", says.words(language).0)));
                assert!(page.contains("<code>01ABC</code>") && !page.contains("<script"));
                assert!(!page.contains("http") && page.ends_with(END));
            }
        }
    }

    #[test]
    fn what_an_app_puts_on_its_pages_ends_nothing_in_them() {
        let written = handling::Brand {
            name: Some("A & <B>\"".into()),
            contact: Some("help@shop.example".into()),
            accent: Some("#0a6".into()),
            logo: None,
        };
        let brand = Brand::new(&written, None);
        let page = pieces(Says::Refused, Language::of(b"fr"), "01ABC", Some(&brand)).concat();
        assert!(page.contains("<span>A &#38; &#60;B&#62;&#34;</span>"), "{page}");
        assert!(page.contains("<a href=\"mailto:help@shop.example?subject=01ABC\">help@shop.example</a>"));
        assert!(page.contains("<style>:root { --accent: #0a6 }</style>"));
        assert_eq!(brand.policy.matches("'sha256-").count(), 2);
        assert!(!brand.policy.contains("unsafe"));
    }
}
