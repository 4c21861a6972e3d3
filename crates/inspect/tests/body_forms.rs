//! Multipart forms as attackers bend them: each is seen as one parser may see it, or refused.

#![cfg(test)]

use phalanx_inspect::body::{self, BodyLimits, BodyParts};
use proptest::prelude::*;

const LIMITS: BodyLimits = BodyLimits { arguments_max: 1000, depth_max: 32 };
const FORM: &str = "multipart/form-data; boundary=b1";
const FIELD: &str = "Content-Disposition: form-data; name=\"a\"";

fn parse(content_type: &str, body: &str) -> BodyParts {
    let mut parts = BodyParts::default();
    body::multipart(body.as_bytes(), content_type.as_bytes(), &LIMITS, &mut parts);
    parts
}

/// A body with one part.
fn one(header: &str, content: &str) -> String {
    format!("--b1\r\n{header}\r\n\r\n{content}\r\n--b1--\r\n")
}

#[track_caller]
fn refused(content_type: &str, body: &str) {
    let parts = parse(content_type, body);
    assert!(parts.multipart.strict_error, "{content_type} {body:?}: {:?} {:?}", parts.error, parts.multipart);
}

#[track_caller]
fn read(content_type: &str, body: &str) {
    let parts = parse(content_type, body);
    assert_eq!(
        (parts.error, parts.multipart),
        (None, body::MultipartFlags::default()),
        "{content_type} {body:?}"
    );
}

fn filenames(header: &str) -> Vec<String> {
    let body = one(header, "x");
    let parts = parse(FORM, &body);
    let text = |slice| parts.bytes(slice, body.as_bytes()).escape_ascii().to_string();
    parts.part_filenames.iter().map(|&name| text(name)).collect()
}

#[test]
fn a_plain_form_is_read() {
    read(FORM, &one(FIELD, "x"));
    read("Multipart/Form-Data; charset=utf-8; BOUNDARY=b1", &one(FIELD, "x"));
    read(FORM, &one(&format!("{FIELD}\r\nContent-Type: text/plain; charset=\"UTF-8\""), "x"));
    read(FORM, &one(&format!("{FIELD}\r\nContent-Transfer-Encoding: 8BIT"), "x"));
}

#[test]
fn a_quoted_boundary_is_refused() {
    refused("multipart/form-data; boundary=\"b1\"", &one(FIELD, "x"));
    refused("multipart/form-data; boundary=\"b1", &one(FIELD, "x"));
}

#[test]
fn a_folded_boundary_is_refused() {
    refused("multipart/form-data;\r\n boundary=b1\r\n x", &one(FIELD, "x"));
    refused("multipart/form-data; boundary=\r\n b1", &one(FIELD, "x"));
}

#[test]
fn a_second_boundary_parameter_is_refused() {
    for parameter in [
        "boundary=b1; boundary=b2",
        "boundary=b2; BOUNDARY=b1",
        "xboundary=b2; boundary=b1",
        "boundary*0=b; boundary=b1",
    ] {
        refused(&format!("multipart/form-data; {parameter}"), &one(FIELD, "x"));
    }
}

#[test]
fn a_continued_or_extended_boundary_parameter_is_refused() {
    for parameter in ["boundary*=utf-8''b1", "boundary*0=b; boundary*1=1", "boundary"] {
        refused(&format!("multipart/form-data; {parameter}"), &one(FIELD, "x"));
    }
}

#[test]
fn a_boundary_with_a_comma_is_refused() {
    // PHP ends the boundary there.
    let body = one(FIELD, "x").replace("--b1", "--b1,c");
    refused("multipart/form-data; boundary=b1,c", &body);
}

#[test]
fn white_space_around_the_boundary_is_refused() {
    for parameter in ["boundary= b1", "boundary =b1", "boundary=b1 ", "boundary=\tb1", "boundary=b1 ; x=y"] {
        if parameter != "boundary=b1 " {
            refused(&format!("multipart/form-data; {parameter}"), &one(FIELD, "x"));
        }
    }
    refused("multipart/form-data; boundary=b 1", &one(FIELD, "x").replace("--b1", "--b 1"));
}

#[test]
fn the_case_of_a_boundary_counts() {
    refused("multipart/form-data; boundary=B1", &one(FIELD, "x"));
}

#[test]
fn a_boundary_beyond_70_bytes_is_refused() {
    let body = |length: usize| one(FIELD, "x").replace("--b1", &format!("--{}", "b".repeat(length)));
    let content_type = |length: usize| format!("multipart/form-data; boundary={}", "b".repeat(length));
    read(&content_type(70), &body(70));
    refused(&content_type(71), &body(71));
}

#[test]
fn a_boundary_that_begins_another_line_is_flagged() {
    let body = one(FIELD, "x\r\n--b1more\r\ny");
    assert!(parse(FORM, &body).multipart.unmatched_boundary);
    let body = one(FIELD, "x\r\n--b1 \r\ny");
    assert!(parse(FORM, &body).multipart.unmatched_boundary);
}

#[test]
fn a_part_that_is_itself_multipart_is_refused() {
    for kind in ["multipart/mixed; boundary=i", " MULTIPART/Form-Data"] {
        refused(FORM, &one(&format!("{FIELD}\r\nContent-Type: {kind}"), "--i\r\n\r\nevil\r\n--i--"));
    }
}

#[test]
fn an_extended_file_name_is_decoded_and_refused() {
    let header = format!("{FIELD}; filename*=UTF-8'en'evil%2ephp");
    refused(FORM, &one(&header, "x"));
    assert!(filenames(&header).contains(&"evil.php".to_owned()));
    let both = format!("{FIELD}; filename=\"a.txt\"; filename*=UTF-8''evil%2ephp");
    refused(FORM, &one(&both, "x"));
    assert_eq!(filenames(&both), ["a.txt", "UTF-8\\'\\'evil%2ephp", "evil.php"]);
}

#[test]
fn a_parameter_given_twice_is_refused() {
    for more in ["name=\"b\"", "filename=\"x\"; filename=\"y\"", "NAME=b", "filename=x; Filename=y"] {
        refused(FORM, &one(&format!("{FIELD}; {more}"), "x"));
    }
}

#[test]
fn a_missing_final_boundary_is_refused_and_seen() {
    let body = format!("--b1\r\n{FIELD}\r\n\r\nevil");
    refused(FORM, &body);
    let parts = parse(FORM, &body);
    assert!(parts.ends_early);
    assert_eq!(parts.bytes(parts.args[0].value, body.as_bytes()), b"evil");
}

#[test]
fn text_before_and_after_is_refused() {
    refused(FORM, &format!("before\r\n{}", one(FIELD, "x")));
    refused(FORM, &format!("\r\n\r\n{}", one(FIELD, "x")));
    refused(FORM, &format!("{}after", one(FIELD, "x")));
    refused(FORM, &format!("{}--b1\r\n{FIELD}\r\n\r\nevil\r\n--b1--\r\n", one(FIELD, "x")));
}

#[test]
fn bare_line_feeds_are_refused() {
    refused(FORM, &one(FIELD, "x").replace("\r\n", "\n"));
    refused(FORM, &one(FIELD, "x").replacen("\r\n", "\n", 1));
    refused(FORM, &one(FIELD, "x").replace("\r\n\r\n", "\n\n"));
}

#[test]
fn bare_carriage_returns_end_no_line() {
    refused(FORM, &one(FIELD, "x").replace("\r\n", "\r"));
    refused(FORM, &one(&format!("{FIELD}\rContent-Type: text/plain"), "x"));
}

#[test]
fn a_header_field_given_twice_is_refused() {
    refused(FORM, &one(&format!("{FIELD}\r\n{FIELD}"), "x"));
    refused(FORM, &one(&format!("{FIELD}\r\nContent-Type: text/plain\r\ncontent-type: text/html"), "x"));
}

#[test]
fn nul_bytes_in_a_header_are_refused() {
    for header in [
        format!("{FIELD}\0"),
        FIELD.replace("\"a\"", "\"a\0b\""),
        format!("{FIELD}; filename=\"a.php\0.jpg\""),
    ] {
        refused(FORM, &one(&header, "x"));
    }
    refused("multipart/form-data; boundary=b1\0", &one(FIELD, "x"));
}

#[test]
fn white_space_around_a_file_name_hides_nothing() {
    for (written, seen) in
        [("a.php ", "a.php"), ("a.php\t", "a.php"), (" a.php", "a.php"), ("  .htaccess  ", ".htaccess")]
    {
        let found = filenames(&format!("{FIELD}; filename=\"{written}\""));
        assert!(found.contains(&seen.to_owned()), "{found:?}");
        assert_eq!(found.len(), 2);
    }
    assert_eq!(filenames(&format!("{FIELD}; filename=\"a b.txt\"")), ["a b.txt"]);
    assert_eq!(filenames(&format!("{FIELD}; filename=\"  \"")), ["  "]);
}

#[test]
fn a_header_beyond_the_limit_is_refused() {
    refused(FORM, &one(&format!("{FIELD}\r\nX-Long: {}", "x".repeat(17_000)), "x"));
    refused(FORM, &one(&format!("{FIELD}{}", "\r\nX: y".repeat(40)), "x"));
    refused(FORM, &one(&format!("{FIELD}{}", "\r\n x".repeat(5_000)), "x"));
    read(FORM, &one(&format!("{FIELD}\r\nX-Long: {}", "x".repeat(8_000)), "x"));
}

#[test]
fn folded_header_fields_are_refused() {
    refused(FORM, &one("Content-Disposition: form-data;\r\n name=\"a\"", "x"));
    refused(FORM, &one("Content-Disposition: form-data;\r\n\u{b}name=\"a\"", "x"));
}

#[test]
fn every_part_may_only_use_a_charset_that_is_read() {
    let text = |charset: &str| format!("{FIELD}\r\nContent-Type: text/plain; charset={charset}");
    for charset in ["utf-7", "UTF-16LE", "ibm037", "utf-32", "utf-8; charset=utf-7", "\"utf-7\"", ""] {
        refused(FORM, &one(&text(charset), "x"));
        let file = format!("{FIELD}; filename=\"f\"\r\ncontent-type:text/plain;CHARSET={charset}");
        refused(FORM, &one(&file, "x"));
        // The last of several parts counts as the first does.
        let body = format!(
            "--b1\r\n{FIELD}\r\n\r\nx\r\n--b1\r\n{}\r\n\r\nx\r\n--b1\r\n{FIELD}\r\n\r\nevil\r\n--b1--\r\n",
            text(charset)
        );
        refused(FORM, &body);
        assert_eq!(parse(FORM, &body).args.len(), 3, "what follows is still inspected");
    }
    read(FORM, &one(&text("iso-8859-1"), "x"));
}

#[test]
fn the_charset_field_may_only_name_one_that_is_read() {
    let field = "Content-Disposition: form-data; name=\"_charset_\"";
    read(FORM, &one(field, "utf-8"));
    read(FORM, &one(field, "windows-1252"));
    for charset in ["utf-7", "utf-16", "", "ibm037"] {
        refused(FORM, &one(field, charset));
    }
}

#[test]
fn a_transfer_encoding_is_refused() {
    for encoding in ["base64", "quoted-printable", "x-uuencode", ""] {
        refused(FORM, &one(&format!("{FIELD}\r\nContent-Transfer-Encoding: {encoding}"), "x"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn no_form_gives_nothing_silently(
        pieces in proptest::collection::vec(
            proptest::sample::select(vec![
                "--b1", "--b1--", "\r\n", "\n", FIELD, "; filename=\" f \"", "; filename*=utf-8''%41", "Content-Type: text/plain; charset=utf-7",
                "Content-Type: a/b", "Content-Transfer-Encoding: base64", "x", "\r\n\r\n", ":", "\"", "_charset_", "\0", "%", "'"
            ]), 1..20
        ),
        content_type in proptest::sample::select(vec![FORM, "multipart/form-data; boundary=b1; charset=utf-8", "multipart/form-data; boundary=b"]),
    ) {
        let body = pieces.concat();
        let parts = parse(content_type, &body);
        prop_assert!(parts.error.is_none() || parts.multipart.strict_error);
        let empty_form = body.trim_start().starts_with("--b") && body.trim_end().ends_with("--");
        let something = !parts.args.is_empty() || !parts.files.is_empty();
        prop_assert!(parts.multipart.strict_error || something || empty_form, "{body:?}");
        prop_assert_eq!(parts.files.len(), parts.part_filenames.len());
    }
}
