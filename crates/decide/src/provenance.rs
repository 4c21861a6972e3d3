//! Where a request came from, as far as a browser says: a page elsewhere can make innocent visitors send attacks,
//! so what it makes them send never counts against them.

/// What is known of a request's origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// The client itself, or a page of this site, sent it.
    Own,
    /// Another site's page caused it.
    CrossSite,
}

impl Provenance {
    /// Judges by Fetch Metadata (W3C, `Sec-Fetch-Site`), else by `Origin` (RFC 6454 section 7), else by `Referer` (RFC
    /// 9110 section 10.1.3), else by an `Accept` that only embedded resources have. `header` returns the first value of
    /// a field.
    ///
    /// Browsers send Fetch Metadata to trustworthy origins only, and a page can suppress `Referer`, which makes `Origin`
    /// `null`: hence four sources. A script can claim all of them and spare itself a ban, never a refusal.
    pub fn of<'a>(header: impl Fn(&str) -> Option<&'a [u8]>) -> Self {
        if let Some(site) = header("sec-fetch-site") {
            return if site == b"same-origin" || site == b"none" { Self::Own } else { Self::CrossSite };
        }
        if let Some(url) = header("origin").or_else(|| header("referer")) {
            let own = header("host").is_some_and(|host| authority(url).eq_ignore_ascii_case(host));
            return if own { Self::Own } else { Self::CrossSite };
        }
        let embedded = header("accept").is_some_and(is_embedded_accept);
        if embedded { Self::CrossSite } else { Self::Own }
    }
}

/// The authority of a URL, without its userinfo.
fn authority(url: &[u8]) -> &[u8] {
    let after_scheme = match url.windows(3).position(|w| w == b"://") {
        Some(at) => url.get(at + 3..).unwrap_or_default(),
        None => url,
    };
    let end = after_scheme.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(after_scheme.len());
    let authority = after_scheme.get(..end).unwrap_or_default();
    match authority.iter().rposition(|&b| b == b'@') {
        Some(at) => authority.get(at + 1..).unwrap_or_default(),
        None => authority,
    }
}

/// What browsers ask for when a page embeds an image, a style sheet, audio or video.
fn is_embedded_accept(accept: &[u8]) -> bool {
    [b"image/".as_slice(), b"text/css", b"audio/", b"video/", b"font/"]
        .iter()
        .any(|kind| accept.starts_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fields: &[(&str, &str)], expected: Provenance) {
        let header = |name: &str| fields.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_bytes());
        assert_eq!(Provenance::of(header), expected, "{fields:?}");
    }

    #[test]
    fn fetch_metadata_decides_first() {
        check(&[("sec-fetch-site", "cross-site")], Provenance::CrossSite);
        check(&[("sec-fetch-site", "same-site")], Provenance::CrossSite);
        check(&[("sec-fetch-site", "same-origin"), ("referer", "http://evil/")], Provenance::Own);
        check(&[("sec-fetch-site", "none")], Provenance::Own);
    }

    #[test]
    fn a_referer_elsewhere_is_cross_site() {
        check(
            &[("host", "shop.test"), ("referer", "https://evil.test/page?shop.test")],
            Provenance::CrossSite,
        );
        check(&[("host", "shop.test"), ("referer", "https://shop.test@evil.test/")], Provenance::CrossSite);
        check(&[("host", "shop.test:8080"), ("referer", "http://SHOP.test:8080/x")], Provenance::Own);
    }

    #[test]
    fn an_origin_elsewhere_is_cross_site_even_without_a_referer() {
        let host = ("host", "shop.test:8080");
        check(&[host, ("origin", "http://evil.test")], Provenance::CrossSite);
        check(&[host, ("origin", "null")], Provenance::CrossSite);
        check(
            &[host, ("origin", "http://evil.test"), ("referer", "http://shop.test:8080/")],
            Provenance::CrossSite,
        );
        check(&[host, ("origin", "http://shop.test:8080")], Provenance::Own);
        check(&[("sec-fetch-site", "same-origin"), ("origin", "null")], Provenance::Own);
    }

    #[test]
    fn an_embedded_image_without_referer_is_cross_site() {
        check(&[("accept", "image/avif,image/webp,*/*;q=0.8")], Provenance::CrossSite);
        check(&[("accept", "*/*")], Provenance::Own);
        check(&[], Provenance::Own);
    }
}
