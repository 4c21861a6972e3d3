//! Header fields on their way: what policy takes out, sets and adds, and what responses are hardened with.

use phalanx_policy::handling::{EditKind, HeaderEdit, Template};

use super::said::Said;
use crate::compress::Choice;
use crate::exchange::pass_response_fields;
use crate::http1::ResponseHead;
use crate::http1::encode::field;
use crate::http1::fields::same_with_underscores;

/// Changes of header fields.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    /// Names that go, in lower case and with `-` for `_`.
    gone: Box<[Box<[u8]>]>,
    /// Fields that come.
    come: Box<[(Box<[u8]>, Template)]>,
}

impl Edits {
    /// In order: what is set or taken out goes, also if an edit before has brought it.
    pub(crate) fn new(edits: &[HeaderEdit]) -> Self {
        let mut gone: Vec<Box<[u8]>> = Vec::new();
        let mut come: Vec<(Box<[u8]>, Template)> = Vec::new();
        for edit in edits {
            let name = edit.name.as_bytes();
            if !matches!(edit.does, EditKind::Add(_)) {
                come.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                let known = edit.name.to_ascii_lowercase().replace('_', "-").into_bytes().into_boxed_slice();
                if !gone.contains(&known) {
                    gone.push(known);
                }
            }
            match &edit.does {
                EditKind::Remove => {}
                EditKind::Set(template) | EditKind::Add(template) => {
                    come.push((name.into(), template.clone()))
                }
            }
        }
        Self { gone: gone.into(), come: come.into() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.come.is_empty()
    }

    /// Whether a field of this name goes. `_` counts as `-`: back ends that map both to one variable would take the one for the other.
    pub(crate) fn takes(&self, name: &[u8]) -> bool {
        self.gone.iter().any(|gone| same_with_underscores(name, gone))
    }

    /// Appends what comes.
    pub(crate) fn write(&self, said: &Said<'_>, out: &mut Vec<u8>) {
        for (name, template) in &self.come {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            said.write(template, out);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// What becomes of the header fields of responses.
#[derive(Debug)]
pub(crate) struct ResponseEdits {
    pub(crate) standard: bool,
    pub(crate) hsts: Option<Box<[u8]>>,
    /// Cookies are hardened, but for these.
    pub(crate) cookies: Option<Box<[Box<[u8]>]>>,
    pub(crate) edits: Edits,
}

impl ResponseEdits {
    /// Appends an upstream's fields as the client gets them.
    pub(crate) fn write_fields(
        &self,
        out: &mut Vec<u8>,
        said: &Said<'_>,
        response: &ResponseHead,
        choice: Choice,
    ) {
        let mut has = Has::default();
        let gone = |name: &[u8]| self.edits.takes(name) || (self.standard && is_banner(name));
        pass_response_fields(out, response, choice, gone, |out, name, value| {
            has.note(name, value);
            match &self.cookies {
                Some(except) if name.eq_ignore_ascii_case(b"set-cookie") => {
                    write_cookie(out, name, value, said.secure, except);
                }
                _ => field(out, name, value),
            }
        });
        self.write_added(out, said, has);
    }

    /// Appends what comes to a reply of the node's own, which already says that its type is what it says.
    pub(crate) fn write_own(&self, out: &mut Vec<u8>, said: &Said<'_>) {
        self.write_added(out, said, Has { no_sniff: true, ..Has::default() });
    }

    fn write_added(&self, out: &mut Vec<u8>, said: &Said<'_>, has: Has) {
        let mut add = |name: &[u8], value: &[u8], is_there: bool| {
            if !is_there && !self.edits.takes(name) {
                field(out, name, value);
            }
        };
        if self.standard {
            add(b"X-Content-Type-Options", b"nosniff", has.no_sniff);
            add(b"X-Frame-Options", b"SAMEORIGIN", has.framing);
            add(b"Referrer-Policy", b"strict-origin-when-cross-origin", has.referrer);
            add(b"Permissions-Policy", PERMISSIONS, has.permissions);
        }
        // RFC 6797 section 7.2: not over plain HTTP.
        if let Some(hsts) = &self.hsts
            && said.secure
        {
            add(b"Strict-Transport-Security", hsts, has.hsts);
        }
        self.edits.write(said, out);
    }
}

/// What an app says for itself.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "one for each field that may be there")]
struct Has {
    no_sniff: bool,
    framing: bool,
    referrer: bool,
    permissions: bool,
    hsts: bool,
}

impl Has {
    fn note(&mut self, name: &[u8], value: &[u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            15 if is("x-frame-options") => self.framing = true,
            15 if is("referrer-policy") => self.referrer = true,
            18 if is("permissions-policy") => self.permissions = true,
            22 if is("x-content-type-options") => self.no_sniff = true,
            // The newer word for the same; browsers that know it ignore the older.
            23 if is("content-security-policy") => self.framing |= names_ancestors(value),
            25 if is("strict-transport-security") => self.hsts = true,
            _ => {}
        }
    }
}

fn names_ancestors(policy: &[u8]) -> bool {
    policy.split(|&byte| byte == b';').map(<[u8]>::trim_ascii_start).any(|directive| {
        directive.get(..15).is_some_and(|name| name.eq_ignore_ascii_case(b"frame-ancestors"))
    })
}

/// Fields that tell strangers what software there is.
fn is_banner(name: &[u8]) -> bool {
    BANNERS.iter().any(|banner| name.eq_ignore_ascii_case(banner.as_bytes()))
}

/// Appends a cookie with what it lacks.
fn write_cookie(out: &mut Vec<u8>, name: &[u8], value: &[u8], secure: bool, except: &[Box<[u8]>]) {
    let cookie = value.split(|&byte| byte == b'=' || byte == b';').next().unwrap_or_default().trim_ascii();
    let has = |wanted: &[u8]| {
        value.split(|&byte| byte == b';').skip(1).any(|attribute| {
            let attribute = attribute.split(|&byte| byte == b'=').next().unwrap_or_default();
            attribute.trim_ascii().eq_ignore_ascii_case(wanted)
        })
    };
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    if !except.iter().any(|known| **known == *cookie) {
        if secure && !has(b"secure") {
            out.extend_from_slice(b"; Secure");
        }
        if !has(b"httponly") && !FOR_SCRIPTS.contains(&cookie) {
            out.extend_from_slice(b"; HttpOnly");
        }
        if !has(b"samesite") {
            out.extend_from_slice(b"; SameSite=Lax");
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Names of cookies that the scripts of a page must read: tokens against forged requests of Angular and axios, and of Django.
const FOR_SCRIPTS: [&[u8]; 2] = [b"XSRF-TOKEN", b"csrftoken"];
const PERMISSIONS: &[u8] = b"camera=(), geolocation=(), microphone=(), payment=(), usb=()";
const BANNERS: [&str; 8] = [
    "server",
    "x-powered-by",
    "x-aspnet-version",
    "x-aspnetmvc-version",
    "x-generator",
    "x-runtime",
    "x-version",
    "x-drupal-cache",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{parse_head, read_response_head};
    use bytes::BytesMut;

    fn edits(edits: &[(&str, EditKind)]) -> Edits {
        let edit = |(name, does): &(&str, EditKind)| HeaderEdit { name: (*name).into(), does: does.clone() };
        Edits::new(&edits.iter().map(edit).collect::<Vec<_>>())
    }

    fn text(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    fn written(edits: &ResponseEdits, secure: bool, fields: &str) -> String {
        let head = parse_head(b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n").unwrap();
        let mut raw =
            BytesMut::from(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n").as_bytes());
        let response = read_response_head(&mut raw, false).unwrap().unwrap();
        let client = "192.0.2.1".parse().unwrap();
        let said = Said { head: &head, host: b"shop.test", client, id: b"ID", secure, depth: 0 };
        let mut out = Vec::new();
        edits.write_fields(&mut out, &said, &response, Choice::default());
        String::from_utf8(out).unwrap().replace("Content-Length: 0\r\n", "").replace("\r\n", "|")
    }

    fn plain() -> ResponseEdits {
        ResponseEdits { standard: false, hsts: None, cookies: None, edits: Edits::default() }
    }

    #[test]
    fn edits_take_set_and_add_in_their_order() {
        let edits = edits(&[
            ("X-Gone", EditKind::Remove),
            ("X-Set", EditKind::Set(text("first"))),
            ("x-set", EditKind::Set(text("{host}"))),
            ("X-More", EditKind::Add(text("{client}"))),
        ]);
        let edits = ResponseEdits { edits, ..plain() };
        let fields = "X-Gone: 1\r\nx_gone: 2\r\nX-Set: a\r\nX-Set: b\r\nX-More: c\r\nConnection: x-hop\r\nX-Hop: 1\r\n";
        assert_eq!(written(&edits, false, fields), "X-More: c|x-set: shop.test|X-More: 192.0.2.1|");
    }

    #[test]
    fn what_an_app_says_for_itself_is_not_overridden() {
        let standard =
            ResponseEdits { standard: true, hsts: Some(b"max-age=5".as_slice().into()), ..plain() };
        let all = written(&standard, true, "Server: x\r\nX-Powered-By: y\r\nDate: now\r\n");
        assert_eq!(
            all,
            "Date: now|X-Content-Type-Options: nosniff|X-Frame-Options: SAMEORIGIN|\
             Referrer-Policy: strict-origin-when-cross-origin|\
             Permissions-Policy: camera=(), geolocation=(), microphone=(), payment=(), usb=()|\
             Strict-Transport-Security: max-age=5|"
        );
        let own = "x-frame-options: DENY\r\nReferrer-Policy: no-referrer\r\nPermissions-Policy: usb=*\r\n\
             Strict-Transport-Security: max-age=1\r\nX-Content-Type-Options: nosniff\r\n";
        assert_eq!(written(&standard, true, own).matches('|').count(), 5);
        let ancestors =
            written(&standard, false, "Content-Security-Policy: default-src *; Frame-Ancestors b.test\r\n");
        assert!(!ancestors.contains("X-Frame") && !ancestors.contains("Strict"), "{ancestors}");
        let without = edits(&[
            ("X-Frame-Options", EditKind::Remove),
            ("Referrer-Policy", EditKind::Set(text("origin"))),
        ]);
        let told = ResponseEdits { edits: without, ..standard };
        let told = written(&told, false, "X-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n");
        assert!(!told.contains("X-Frame") && told.ends_with("Referrer-Policy: origin|"), "{told}");
    }

    #[test]
    fn cookies_get_what_they_lack() {
        let cookies = ResponseEdits { cookies: Some([b"theme".as_slice().into()].into()), ..plain() };
        for (cookie, secure, expected) in [
            ("a=b", true, "a=b; Secure; HttpOnly; SameSite=Lax"),
            ("a=b; Path=/", false, "a=b; Path=/; HttpOnly; SameSite=Lax"),
            ("a=secure; httponly; SAMESITE=None;secure", true, "a=secure; httponly; SAMESITE=None;secure"),
            ("a=b;SameSite = Strict", true, "a=b;SameSite = Strict; Secure; HttpOnly"),
            ("theme=dark", true, "theme=dark"),
            ("csrftoken=x", true, "csrftoken=x; Secure; SameSite=Lax"),
        ] {
            let field = format!("Set-Cookie: {cookie}\r\n");
            assert_eq!(written(&cookies, secure, &field), format!("Set-Cookie: {expected}|"));
        }
    }
}
