//! The languages in which the node's own pages speak, and which of them a client gets. What the client wrote is only compared.

use crate::http1::fields::list;

/// One of the languages that there are words in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Language(usize);

impl Language {
    /// All, in the order of [`TAGS`].
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..TAGS.len()).map(Self)
    }

    /// The language that an `Accept-Language` value ranks highest, of those that there are; English if none is among them.
    pub(crate) fn of(accepted: &[u8]) -> Self {
        let mut best: Option<(u32, usize)> = None;
        for range in list(accepted).take(RANGES_MAX) {
            let mut parts = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let tag = parts.next().unwrap_or_default();
            let primary = tag.split(|&byte| byte == b'-').next().unwrap_or_default();
            let quality = parts.find_map(|part| part.strip_prefix(b"q=")).map_or(1_000, per_mille);
            let place = TAGS.iter().position(|known| known.as_bytes().eq_ignore_ascii_case(primary));
            if let Some(place) = place
                && quality > 0
                && best.is_none_or(|(most, _)| quality > most)
            {
                best = Some((quality, place));
            }
        }
        Self(best.map_or(0, |(_, place)| place))
    }

    /// Its tag, as in RFC 5646.
    pub(crate) fn tag(self) -> &'static str {
        self.pick(&TAGS)
    }

    /// What stands in its place.
    pub(crate) fn pick<T: Copy + Default>(self, by_language: &[T; COUNT]) -> T {
        by_language.get(self.0).copied().unwrap_or_default()
    }

    /// Its place among all.
    pub(crate) fn index(self) -> usize {
        self.0
    }
}

/// A quality value in thousandths (RFC 9110 section 12.4.2); what is none counts as 0.
pub(crate) fn per_mille(text: &[u8]) -> u32 {
    let text = std::str::from_utf8(text).unwrap_or_default();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = part.bytes().take_while(u8::is_ascii_digit).chain(std::iter::repeat(b'0')).take(3);
    let part = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    match whole {
        "0" => part,
        "1" => 1_000,
        _ => 0,
    }
}

/// The languages; the first is for all others.
pub(crate) const TAGS: [&str; COUNT] = ["en", "de", "fr", "es", "it", "pt", "nl", "pl"];
/// How many there are.
pub(crate) const COUNT: usize = 8;
/// Languages that are looked at: nobody speaks more.
const RANGES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_the_language_that_it_ranks_highest_of_those_that_there_are() {
        for (accepted, expected) in [
            ("", "en"),
            ("de", "de"),
            ("de-CH, en;q=0.5", "de"),
            ("ja, fr;q=0.3, es;q=0.8", "es"),
            ("en;q=0.1, PL;q=0.11", "pl"),
            ("it;q=0, nl;q=nonsense", "en"),
            ("fr, de", "fr"),
            ("*, zh", "en"),
            (";;,,-", "en"),
        ] {
            assert_eq!(Language::of(accepted.as_bytes()).tag(), expected, "{accepted}");
        }
        let late = format!("{}de", "xx,".repeat(RANGES_MAX));
        assert_eq!(Language::of(late.as_bytes()).tag(), "en");
    }
}
