//! Pages of an app for replies that no upstream wrote: templates in HTML, checked when the policy is loaded.

use std::sync::Arc;

use phalanx_model::limits::PAGE_BYTES_MAX;

use crate::reply::Reply;

/// The pages of an app; where there is none, the product's own is sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pages {
    pub(crate) refused: Option<Arc<Page>>,
    pub(crate) error: Option<Arc<Page>>,
    pub(crate) maintenance: Option<Arc<Page>>,
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
pub(crate) struct Page(Vec<PagePart>);

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
        Ok(Self(parts))
    }

    /// The page for a reply. None of it comes from a client.
    pub(crate) fn write(&self, status: u16, title: &str, text: &str, id: &str) -> String {
        let mut page = String::new();
        for part in &self.0 {
            match part {
                PagePart::Text(text) => page.push_str(text),
                PagePart::Of(Word::RequestId) => page.push_str(id),
                PagePart::Of(Word::Status) => page.push_str(&status.to_string()),
                PagePart::Of(Word::Title) => page.push_str(title),
                PagePart::Of(Word::Text) => page.push_str(text),
            }
        }
        page
    }
}

const WORDS: [(&str, Word); 4] = [
    ("{request_id}", Word::RequestId),
    ("{status}", Word::Status),
    ("{title}", Word::Title),
    ("{text}", Word::Text),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_what_it_is_asked_and_leaves_other_braces() {
        let page = Page::read("p { a: b } {title} {status}{text}<{request_id}> {other}{").unwrap();
        assert_eq!(page.write(403, "No", "way", "ID"), "p { a: b } No 403way<ID> {other}{");
        assert!(Page::read("<p>refused</p>").is_err());
        assert!(Page::read(&format!("{}{{request_id}}", "x".repeat(PAGE_BYTES_MAX))).is_err());
    }

    #[test]
    fn every_refusal_has_one_page() {
        let page = |name: &str| Some(Arc::new(Page::read(&format!("{name}{{request_id}}")).unwrap()));
        let pages = Pages { refused: page("r"), error: page("e"), maintenance: page("m") };
        let of = |reply: Reply| pages.of(reply).unwrap().write(0, "", "", "");
        assert_eq!((of(Reply::REFUSED), of(Reply::maintenance(5))), ("r".into(), "m".into()));
        assert_eq!((of(Reply::UNAVAILABLE), of(Reply::OVERLOADED)), ("e".into(), "e".into()));
        let pages = Pages { maintenance: None, ..pages };
        assert_eq!(pages.of(Reply::maintenance(5)).unwrap().write(0, "", "", ""), "e");
    }
}
