//! Pages of an app for replies that no upstream wrote: templates in HTML, checked when the policy is loaded.

use std::sync::Arc;

use phalanx_model::limits::PAGE_BYTES_MAX;

use crate::language::Language;
use crate::page::brand::Brand;
use crate::page::words::Says;
use crate::reply::Reply;

/// The pages of an app; where there is none, the product's own is sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pages {
    pub(crate) refused: Option<Arc<Page>>,
    pub(crate) error: Option<Arc<Page>>,
    pub(crate) maintenance: Option<Arc<Page>>,
    /// What the app puts on the product's own.
    pub(crate) brand: Option<Arc<Brand>>,
    /// Everybody gets problem+json.
    pub(crate) problem: bool,
}

impl Pages {
    /// The page for a reply. All that is refused gets one and the same.
    pub(crate) fn of(&self, reply: Reply) -> Option<&Page> {
        let page = if reply == Reply::REFUSED {
            &self.refused
        } else if reply.is_maintenance() && self.maintenance.is_some() {
            &self.maintenance
        } else {
            &self.error
        };
        page.as_deref()
    }
}

/// One page.
#[derive(Debug)]
pub(crate) struct Page {
    parts: Vec<PagePart>,
    /// It shows `{language}`: what it is told comes in the client's. Else it comes in English.
    pub(crate) follows_client: bool,
}

/// What a page is told of a reply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) status: &'a str,
    pub(crate) says: Says,
    pub(crate) language: Language,
    pub(crate) id: &'a str,
}

#[derive(Debug)]
enum PagePart {
    Text(String),
    Of(Word),
}

/// What a page may say of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    RequestId,
    Status,
    Title,
    Text,
    Language,
}

impl Page {
    /// Reads a template. Braces around anything but the words that are known stand for themselves, as style sheets have them.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn read(template: &str) -> Result<Self, String> {
        if template.len() > PAGE_BYTES_MAX {
            return Err(format!("the page has {} bytes; {PAGE_BYTES_MAX} are possible", template.len()));
        }
        let mut parts = Vec::new();
        let mut rest = template;
        let mut plain = String::new();
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
            plain.push_str(before);
            match WORDS.iter().find_map(|(word, of)| from.strip_prefix(word).map(|after| (*of, after))) {
                Some((of, after)) => {
                    parts.push(PagePart::Text(std::mem::take(&mut plain)));
                    parts.push(PagePart::Of(of));
                    rest = after;
                }
                None => {
                    plain.push('{');
                    rest = from.strip_prefix('{').unwrap_or_default();
                }
            }
        }
        plain.push_str(rest);
        parts.push(PagePart::Text(plain));
        if !parts.iter().any(|part| matches!(part, PagePart::Of(Word::RequestId))) {
            return Err("the page does not show {request_id}, by which a request is found again".to_owned());
        }
        let follows_client = parts.iter().any(|part| matches!(part, PagePart::Of(Word::Language)));
        Ok(Self { parts, follows_client })
    }

    /// The page for a reply, piece by piece. None of it comes from a client.
    pub(crate) fn each(&self, told: &Told<'_>, take: &mut dyn FnMut(&str)) {
        let language = if self.follows_client { told.language } else { Language::default() };
        let (title, text) = told.says.words(language);
        for part in &self.parts {
            take(match part {
                PagePart::Text(text) => text,
                PagePart::Of(Word::RequestId) => told.id,
                PagePart::Of(Word::Status) => told.status,
                PagePart::Of(Word::Title) => title,
                PagePart::Of(Word::Text) => text,
                PagePart::Of(Word::Language) => language.tag(),
            });
        }
    }
}

const WORDS: [(&str, Word); 5] = [
    ("{request_id}", Word::RequestId),
    ("{status}", Word::Status),
    ("{title}", Word::Title),
    ("{text}", Word::Text),
    ("{language}", Word::Language),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn written(page: &Page, says: Says, language: &str) -> String {
        let told = Told { status: "403", says, language: Language::of(language.as_bytes()), id: "ID" };
        let mut out = String::new();
        page.each(&told, &mut |piece| out.push_str(piece));
        out
    }

    #[test]
    fn a_page_says_what_it_is_asked_and_leaves_other_braces() {
        let page = Page::read("p { a: b } {title} {status}<{request_id}> {other}{").unwrap();
        let expected = "p { a: b } Request refused 403<ID> {other}{";
        assert_eq!(written(&page, Says::Refused, "de"), expected);
        let page = Page::read("{language} {title} {request_id}").unwrap();
        assert_eq!(written(&page, Says::Refused, "de"), "de Anfrage abgelehnt ID");
        assert!(Page::read("<p>refused</p>").is_err());
        assert!(Page::read(&format!("{}{{request_id}}", "x".repeat(PAGE_BYTES_MAX))).is_err());
    }

    #[test]
    fn every_refusal_has_one_page() {
        let page = |name: &str| Some(Arc::new(Page::read(&format!("{name}{{request_id}}")).unwrap()));
        let pages =
            Pages { refused: page("r"), error: page("e"), maintenance: page("m"), ..Pages::default() };
        let of = |reply: Reply| written(pages.of(reply).unwrap(), Says::Refused, "");
        assert_eq!((of(Reply::REFUSED), of(Reply::maintenance(5))), ("rID".into(), "mID".into()));
        assert_eq!((of(Reply::UNAVAILABLE), of(Reply::OVERLOADED)), ("eID".into(), "eID".into()));
        let pages = Pages { maintenance: None, ..pages };
        assert_eq!(written(pages.of(Reply::maintenance(5)).unwrap(), Says::Refused, ""), "eID");
    }
}
